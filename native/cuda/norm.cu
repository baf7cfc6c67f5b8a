// The affine map of a normalisation, alone or with the ReLU and the addition that follow it, in one pass.
#include "cuda.h"
#include "floats.h"
#include "kernels.h"
#include "norm.h"

namespace voxgrad::cuda {
namespace {

// What follows the affine map.
enum class Then { nothing, relu, reluAdd, addRelu, reluSum };

// One normalisation of an input.
struct Normal {
  const float *moments, *gamma, *beta;

  __device__ Affine of(const Sets& sets, int64_t set, int64_t channel, double epsilon) const {
    return affineOf(sets.momentsOf(moments, set, channel), gamma[channel], beta[channel], epsilon);
  }
};

// y may be x, and may be the residual, which reluSum normalises as well.
struct Normalize {
  const float *x, *residual;
  Normal own, other;
  double epsilon;
  float* y;
};

template <int each, Then then>
__global__ void __launch_bounds__(NormShape::threads)
    normalizeKernel(Sets sets, Sets otherSets, NormShape shape, Normalize a) {
  Affine* maps = sharedMemory<Affine>();
  const NormPart part(shape);
  const int64_t channel0 = int64_t{blockIdx.y} * shape.width * each;
  for (int i = static_cast<int>(threadIdx.x); i < shape.width * each; i += NormShape::threads) {
    const int64_t channel = channel0 + i;
    if (channel >= sets.channels) continue;
    maps[i] = a.own.of(sets, part.set, channel, a.epsilon);
    if (then == Then::reluSum)
      maps[shape.width * each + i] = a.other.of(otherSets, part.set, channel, a.epsilon);
  }
  __syncthreads();
  if (part.first >= part.end) return;
  Affine own[each], other[each];
  for (int j = 0; j < each; j++) {
    own[j] = maps[part.columnOfBlock * each + j];
    if (then == Then::reluSum) other[j] = maps[(shape.width + part.columnOfBlock) * each + j];
  }
  const auto* x = reinterpret_cast<const Floats<each>*>(a.x);
  const auto* residual = reinterpret_cast<const Floats<each>*>(a.residual);
  auto* y = reinterpret_cast<Floats<each>*>(a.y);
  for (int row = part.first; row < part.end; row += shape.together) {
    const int64_t i = part.at + row * shape.columns;
    Floats<each> values = x[i], added;
    if (then != Then::nothing && then != Then::relu) added = residual[i];
    for (int j = 0; j < each; j++) {
      float value = own[j].of(values.of[j]);
      if (then == Then::addRelu) value += added.of[j];
      if (then != Then::nothing) value = value < 0 ? 0.0f : value;
      if (then == Then::reluAdd) value += added.of[j];
      if (then == Then::reluSum) {
        const float second = other[j].of(added.of[j]);
        value += second < 0 ? 0.0f : second;
      }
      values.of[j] = value;
    }
    y[i] = values;
  }
}

template <int each, Then then>
void launchNormalize(const char* name, const Sets& sets, const Sets& otherSets, const Normalize& a) {
  const NormShape shape(sets, each);
  const size_t maps = (then == Then::reluSum ? 2 : 1) * static_cast<size_t>(shape.width) * each;
  launch(name, normalizeKernel<each, then>, shape.grid(maps * sizeof(Affine)), sets, otherSets, shape, a);
}

// Of the input number `first` and the three behind it.
Normal normalOf(const Step& step, size_t first) {
  return {step.inputs[first + 1].f32(), step.inputs[first + 2].f32(), step.inputs[first + 3].f32()};
}

template <Then then>
void run(const char* name, const Step& step) {
  const size_t second = then == Then::reluSum ? 4 : 0;
  const Sets sets(step.inputs[0], step.inputs[1]), other(step.inputs[second], step.inputs[second + 1]);
  const Normalize a{step.inputs[0].f32(),
                    step.inputs.size() > 4 ? step.inputs[4].f32() : nullptr,
                    normalOf(step, 0),
                    normalOf(step, second),
                    step.attributes.number("epsilon"),
                    step.output.f32()};
  if (sets.channels % 4 == 0)
    launchNormalize<4, then>(name, sets, other, a);
  else
    launchNormalize<1, then>(name, sets, other, a);
}

void runNormalize(const Step& step) { run<Then::nothing>("normalize", step); }
void runRelu(const Step& step) { run<Then::relu>("normalizeRelu", step); }
void runReluAdd(const Step& step) { run<Then::reluAdd>("normalizeReluAdd", step); }
void runReluSum(const Step& step) { run<Then::reluSum>("normalizeReluSum", step); }
void runAddRelu(const Step& step) { run<Then::addRelu>("normalizeAddRelu", step); }

}  // namespace

const KernelTable normKernels = {
    kernel("normalize", runNormalize),      kernel("normalizeRelu", runRelu),
    kernel("normalizeReluAdd", runReluAdd), kernel("normalizeReluSum", runReluSum),
    kernel("normalizeAddRelu", runAddRelu),
};

}  // namespace voxgrad::cuda
