// Rectifiers and their gradients. Comparisons are written so that NaN passes through.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

struct LeakyRelu {
  const float* x;
  float slope;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] < 0 ? slope * x[i] : x[i]; }
};

struct Relu {
  const float* x;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] < 0 ? 0.0f : x[i]; }
};

struct LeakyReluGradient {
  const float *y, *dy;
  float slope;
  float* dx;
  __device__ void operator()(int64_t i) const { dx[i] = y[i] > 0 ? dy[i] : slope * dy[i]; }
};

struct ReluGradient {
  const float *y, *dy;
  float* dx;
  __device__ void operator()(int64_t i) const { dx[i] = y[i] > 0 ? dy[i] : 0.0f; }
};

float slopeOf(const Step& step) { return static_cast<float>(step.attributes.number("slope")); }

void runRelu(const Step& step) {
  forEach("relu", step.output.count(), Relu{step.inputs[0].f32(), step.output.f32()});
}

void runReluGradient(const Step& step) {
  forEach("reluGradient", step.output.count(),
          ReluGradient{step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32()});
}

void runLeakyRelu(const Step& step) {
  forEach("leakyRelu", step.output.count(),
          LeakyRelu{step.inputs[0].f32(), slopeOf(step), step.output.f32()});
}

void runLeakyReluGradient(const Step& step) {
  forEach("leakyReluGradient", step.output.count(),
          LeakyReluGradient{step.inputs[0].f32(), step.inputs[1].f32(), slopeOf(step), step.output.f32()});
}

}  // namespace

const KernelTable activationKernels = {
    kernel("relu", runRelu),
    kernel("reluGradient", runReluGradient),
    kernel("leakyRelu", runLeakyRelu),
    kernel("leakyReluGradient", runLeakyReluGradient),
};

}  // namespace voxgrad::cuda
