// Softmax and its logarithm over the channels, and their gradients from the output.
#include "cuda.h"
#include "kernels.h"
#include "rows.h"

namespace voxgrad::cuda {
namespace {

// The output may be an input in all of these.
struct Softmax {
  const float* x;
  float factor;
  float* y;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values p;
    own.softmax(x, row, factor, p);
    own.store(p, row, y);
  }
};

struct SoftmaxGradient {
  const float *y, *dy;
  float factor;
  float* dx;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values p, slope;
    own.load(y, row, 0, p);
    own.load(dy, row, 0, slope);
    own.backward(p, factor, slope);
    own.store(slope, row, dx);
  }
};

struct LogSoftmax {
  const float* x;
  float* y;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values values, powers;
    const auto softmax = own.exponentials(x, row, 1, -1, powers);
    own.load(x, row, 0, values);
    const float shift = logf(softmax.total);
    for (int i = 0; i < R::each; i++) values[i] = (values[i] - softmax.largest) - shift;
    own.store(values, row, y);
  }
};

// dx = dy - exp(y) * sum over c of dy
struct LogSoftmaxGradient {
  const float *y, *dy;
  float* dx;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values values, slope;
    own.load(y, row, 0, values);
    own.load(dy, row, 0, slope);
    const float total = own.sum(slope);
    for (int i = 0; i < R::each; i++) slope[i] -= expf(values[i]) * total;
    own.store(slope, row, dx);
  }
};

float factorOf(const Step& step) { return static_cast<float>(1.0 / step.attributes.number("temperature")); }

void runSoftmax(const Step& step) {
  forEachRow("softmax", step, step.output, Softmax{step.inputs[0].f32(), factorOf(step), step.output.f32()});
}

void runSoftmaxGradient(const Step& step) {
  forEachRow("softmaxGradient", step, step.output,
             SoftmaxGradient{step.inputs[0].f32(), step.inputs[1].f32(), factorOf(step), step.output.f32()});
}

void runLogSoftmax(const Step& step) {
  forEachRow("logSoftmax", step, step.output, LogSoftmax{step.inputs[0].f32(), step.output.f32()});
}

void runLogSoftmaxGradient(const Step& step) {
  forEachRow("logSoftmaxGradient", step, step.output,
             LogSoftmaxGradient{step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32()});
}

}  // namespace

const KernelTable softmaxKernels = {
    kernel("softmax", runSoftmax),
    kernel("softmaxGradient", runSoftmaxGradient),
    kernel("logSoftmax", runLogSoftmax),
    kernel("logSoftmaxGradient", runLogSoftmaxGradient),
};

}  // namespace voxgrad::cuda
