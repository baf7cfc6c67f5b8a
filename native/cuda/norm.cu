// The affine map of a normalisation, alone or with the ReLU and the addition that follow it, in one pass.
#include "cuda.h"
#include "floats.h"
#include "kernels.h"
#include "norm.h"

namespace voxgrad::cuda {
namespace {

// What follows the affine map.
enum class Then { nothing, relu, reluAdd, addRelu };

// y may be x, and may be the residual.
struct Normalize {
  const float *x, *moments, *gamma, *beta, *residual;
  double epsilon;
  float* y;
};

template <int each, Then then>
__global__ void __launch_bounds__(NormShape::threads)
    normalizeKernel(Sets sets, NormShape shape, Normalize a) {
  Affine* maps = sharedMemory<Affine>();
  const NormPart part(shape);
  const int64_t channel0 = int64_t{blockIdx.y} * shape.width * each;
  for (int i = static_cast<int>(threadIdx.x); i < shape.width * each; i += NormShape::threads) {
    const int64_t channel = channel0 + i;
    if (channel < sets.channels)
      maps[i] = affineOf(sets.momentsOf(a.moments, part.set, channel), a.gamma[channel], a.beta[channel],
                         a.epsilon);
  }
  __syncthreads();
  if (part.first >= part.end) return;
  Affine own[each];
  for (int j = 0; j < each; j++) own[j] = maps[part.columnOfBlock * each + j];
  const auto* x = reinterpret_cast<const Floats<each>*>(a.x);
  const auto* residual = reinterpret_cast<const Floats<each>*>(a.residual);
  auto* y = reinterpret_cast<Floats<each>*>(a.y);
  for (int row = part.first; row < part.end; row += shape.together) {
    const int64_t i = part.at + row * shape.columns;
    Floats<each> values = x[i], added;
    if (then == Then::reluAdd || then == Then::addRelu) added = residual[i];
    for (int j = 0; j < each; j++) {
      float value = own[j].of(values.of[j]);
      if (then == Then::addRelu) value += added.of[j];
      if (then != Then::nothing) value = value < 0 ? 0.0f : value;
      if (then == Then::reluAdd) value += added.of[j];
      values.of[j] = value;
    }
    y[i] = values;
  }
}

template <int each, Then then>
void launchNormalize(const char* name, const Sets& sets, const Normalize& a) {
  const NormShape shape(sets, each);
  launch(name, normalizeKernel<each, then>,
         shape.grid(static_cast<size_t>(shape.width) * each * sizeof(Affine)), sets, shape, a);
}

template <Then then>
void run(const char* name, const Step& step) {
  const Sets sets(step.inputs[0], step.inputs[1]);
  const Normalize a{step.inputs[0].f32(),
                    step.inputs[1].f32(),
                    step.inputs[2].f32(),
                    step.inputs[3].f32(),
                    step.inputs.size() > 4 ? step.inputs[4].f32() : nullptr,
                    step.attributes.number("epsilon"),
                    step.output.f32()};
  if (sets.channels % 4 == 0)
    launchNormalize<4, then>(name, sets, a);
  else
    launchNormalize<1, then>(name, sets, a);
}

void runNormalize(const Step& step) { run<Then::nothing>("normalize", step); }
void runRelu(const Step& step) { run<Then::relu>("normalizeRelu", step); }
void runReluAdd(const Step& step) { run<Then::reluAdd>("normalizeReluAdd", step); }
void runAddRelu(const Step& step) { run<Then::addRelu>("normalizeAddRelu", step); }

}  // namespace

const KernelTable normKernels = {
    kernel("normalize", runNormalize),
    kernel("normalizeRelu", runRelu),
    kernel("normalizeReluAdd", runReluAdd),
    kernel("normalizeAddRelu", runAddRelu),
};

}  // namespace voxgrad::cuda
