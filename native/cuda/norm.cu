// The affine map of a normalisation, alone or with the ReLU and the addition that follow it, in one pass.
#include "kernels.h"
#include "norm.h"
#include "pack.h"

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
template <class T>
struct Normalize {
  const T *x, *residual;
  Normal own, other;
  double epsilon;
  T* y;
};

template <class T, int each, Then then>
__global__ void __launch_bounds__(NormShape::threads)
    normalizeKernel(Sets sets, Sets otherSets, NormShape shape, Normalize<T> a) {
  Affine* maps = sharedMemory<Affine>();
  const int64_t set = shape.setOfBlock(), channel0 = int64_t{blockIdx.y} * shape.width * each;
  for (int i = static_cast<int>(threadIdx.x); i < shape.width * each; i += NormShape::threads) {
    const int64_t channel = channel0 + i;
    if (channel >= sets.channels) continue;
    maps[i] = a.own.of(sets, set, channel, a.epsilon);
    if (then == Then::reluSum) maps[shape.width * each + i] = a.other.of(otherSets, set, channel, a.epsilon);
  }
  __syncthreads();
  // Only now: what it knows need not outlive the square roots above.
  const NormPart part(shape);
  if (part.first >= part.end) return;
  Affine own[each], other[each];
  for (int j = 0; j < each; j++) {
    own[j] = maps[part.columnOfBlock * each + j];
    if (then == Then::reluSum) other[j] = maps[(shape.width + part.columnOfBlock) * each + j];
  }
  for (int row = part.first; row < part.end; row += shape.together) {
    const int64_t i = (part.at + row * shape.columns) * each;
    Pack<float, each> values = loadFloats<each>(a.x + i), added;
    if (then != Then::nothing && then != Then::relu) added = loadFloats<each>(a.residual + i);
    for (int j = 0; j < each; j++) {
      float value = own[j].of(values.v[j]);
      if (then == Then::addRelu) value += added.v[j];
      if (then != Then::nothing) value = value < 0 ? 0.0f : value;
      if (then == Then::reluAdd) value += added.v[j];
      if (then == Then::reluSum) {
        const float second = other[j].of(added.v[j]);
        value += second < 0 ? 0.0f : second;
      }
      values.v[j] = value;
    }
    storeFloats(a.y + i, values);
  }
}

template <class T, int each, Then then>
void launchNormalize(const char* name, const Sets& sets, const Sets& otherSets, const Normalize<T>& a) {
  const NormShape shape(sets, each);
  const size_t maps = (then == Then::reluSum ? 2 : 1) * static_cast<size_t>(shape.width) * each;
  launch(name, normalizeKernel<T, each, then>, shape.grid(maps * sizeof(Affine)), sets, otherSets, shape, a);
}

// Of the input number `first` and the three behind it.
Normal normalOf(const Step& step, size_t first) {
  return {step.inputs[first + 1].f32(), step.inputs[first + 2].f32(), step.inputs[first + 3].f32()};
}

template <Then then>
void run(const char* name, const Step& step) {
  const size_t second = then == Then::reluSum ? 4 : 0;
  const Sets sets(step.inputs[0], step.inputs[1]), other(step.inputs[second], step.inputs[second + 1]);
  byStorage(step.output, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const Normalize<T> a{dataOf<T>(step.inputs[0]),
                         step.inputs.size() > 4 ? dataOf<T>(step.inputs[4]) : nullptr,
                         normalOf(step, 0),
                         normalOf(step, second),
                         step.attributes.number("epsilon"),
                         dataOf<T>(step.output)};
    const Tensor& residual = step.inputs[step.inputs.size() > 4 ? 4 : 0];
    if (packWidth<T>(sets.channels, {&step.inputs[0], &residual, &step.output}) == chunkOf<T>)
      launchNormalize<T, chunkOf<T>, then>(name, sets, other, a);
    else
      launchNormalize<T, 1, then>(name, sets, other, a);
  });
}

void runNormalize(const Step& step) { run<Then::nothing>("normalize", step); }
void runRelu(const Step& step) { run<Then::relu>("normalizeRelu", step); }
void runReluAdd(const Step& step) { run<Then::reluAdd>("normalizeReluAdd", step); }
void runReluSum(const Step& step) { run<Then::reluSum>("normalizeReluSum", step); }
void runAddRelu(const Step& step) { run<Then::addRelu>("normalizeAddRelu", step); }

}  // namespace

const KernelTable normKernels = {
    narrowable(kernel("normalize", runNormalize), 1 | outputBit),
    narrowable(kernel("normalizeRelu", runRelu), 1 | outputBit),
    narrowable(kernel("normalizeReluAdd", runReluAdd), 1 | 1 << 4 | outputBit),
    narrowable(kernel("normalizeReluSum", runReluSum), 1 | 1 << 4 | outputBit),
    narrowable(kernel("normalizeAddRelu", runAddRelu), 1 | 1 << 4 | outputBit),
};

}  // namespace voxgrad::cuda
