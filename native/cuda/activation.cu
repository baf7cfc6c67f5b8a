// Rectifiers and their gradients. Comparisons are written so that NaN passes through.
#include "elementwise.h"
#include "index.h"
#include "kernels.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

struct LeakyRelu {
  float slope;
  __device__ float operator()(float x, float) const { return x < 0 ? slope * x : x; }
};

struct Relu {
  __device__ float operator()(float x, float) const { return x < 0 ? 0.0f : x; }
};

struct LeakyReluGradient {
  float slope;
  __device__ float operator()(float y, float dy) const { return y > 0 ? dy : slope * dy; }
};

struct ReluGradient {
  __device__ float operator()(float y, float dy) const { return y > 0 ? dy : 0.0f; }
};

float slopeOf(const Step& step) { return static_cast<float>(step.attributes.number("slope")); }

void runRelu(const Step& step) { elementwise("relu", step.inputs[0], step.inputs[0], step.output, Relu{}); }

void runReluGradient(const Step& step) {
  elementwise("reluGradient", step.inputs[0], step.inputs[1], step.output, ReluGradient{});
}

void runLeakyRelu(const Step& step) {
  elementwise("leakyRelu", step.inputs[0], step.inputs[0], step.output, LeakyRelu{slopeOf(step)});
}

void runLeakyReluGradient(const Step& step) {
  elementwise("leakyReluGradient", step.inputs[0], step.inputs[1], step.output,
              LeakyReluGradient{slopeOf(step)});
}

// `slopes` divides by the number of slopes: 1, or that of the channels.
struct Prelu {
  const float *x, *slope;
  Divisor slopes;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] < 0 ? slope[slopes.remainder(i)] * x[i] : x[i]; }
};

struct PreluInputGradient {
  const float *x, *slope, *dy;
  Divisor slopes;
  float* dx;
  __device__ void operator()(int64_t i) const {
    dx[i] = x[i] > 0 ? dy[i] : slope[slopes.remainder(i)] * dy[i];
  }
};

struct AddSlopeGradient {
  const float *x, *dy;
  int64_t slopes;
  __device__ void operator()(int64_t, int64_t row, int64_t column, double (&sums)[1]) const {
    const int64_t i = row * slopes + column;
    sums[0] += x[i] > 0 ? 0.0f : x[i] * dy[i];
  }
};

struct StoreSlopeGradient {
  float* y;
  __device__ void operator()(int64_t, int64_t column, const double (&totals)[1]) const {
    y[column] = static_cast<float>(totals[0]);
  }
};

void runPrelu(const Step& step) {
  const Tensor& slope = step.inputs[1];
  forEach("prelu", step.output.count(),
          Prelu{step.inputs[0].f32(), slope.f32(), Divisor(slope.count()), step.output.f32()});
}

void runPreluInputGradient(const Step& step) {
  const Tensor& slope = step.inputs[1];
  forEach("preluInputGradient", step.output.count(),
          PreluInputGradient{step.inputs[0].f32(), slope.f32(), step.inputs[2].f32(), Divisor(slope.count()),
                             step.output.f32()});
}

SumShape slopeShape(const Step& step) {
  const int64_t slopes = step.output.count();
  return {1, step.inputs[0].count() / slopes, slopes};
}

size_t slopeWorkspace(const Step& step) { return sumBytes<1>(slopeShape(step)); }

void runPreluSlopeGradient(const Step& step) {
  const SumShape shape = slopeShape(step);
  columnSums<1>("preluSlopeGradient", shape, step.workspace,
                AddSlopeGradient{step.inputs[0].f32(), step.inputs[1].f32(), shape.columns},
                StoreSlopeGradient{step.output.f32()});
}

}  // namespace

const KernelTable activationKernels = {
    narrowable(kernel("relu", runRelu), 1 | outputBit),
    narrowable(kernel("reluGradient", runReluGradient), 3 | outputBit),
    narrowable(kernel("leakyRelu", runLeakyRelu), 1 | outputBit),
    narrowable(kernel("leakyReluGradient", runLeakyReluGradient), 3 | outputBit),
    kernel("prelu", runPrelu),
    kernel("preluInputGradient", runPreluInputGradient),
    kernel("preluSlopeGradient", runPreluSlopeGradient, slopeWorkspace),
};

}  // namespace voxgrad::cuda
