// The convolution steps of a plan that sum the moments of their output as they store it. The moments, [1,
// channels, 2], are the first input, which the step writes.
#include "conv_steps.h"
#include "kernels.h"

namespace voxgrad::cpu {

bool packedSums(const Step& step) {
  const auto convolution = packedConvolution(step);
  return dynamic_cast<const SummingConvolution*>(convolution.get());
}

static Step withoutMoments(const Step& step) {
  Step rest = step;
  rest.inputs.erase(rest.inputs.begin());
  return rest;
}

static Step bareOf(const Step& step, bool normalized) {
  const Step rest = withoutMoments(step);
  return normalized ? withoutNorm(rest) : rest;
}

template <bool normalized>
static size_t prepareSummed(const Step& step) {
  expectInputs(step, 3, 7);
  const Step rest = withoutMoments(step);
  const size_t bytes = normalized ? prepareNormalizedPacked(rest) : preparePacked(rest);
  const Tensor& moments = step.inputs[0];
  expectDType(step, moments, DType::f32);
  expectCount(step, moments, 2 * step.output.channels());
  if (!packedSums(bareOf(step, normalized))) refuse(step, "its algorithm does not sum");
  return bytes;
}

template <bool normalized>
static void runSummed(const Step& step) {
  const Step rest = withoutMoments(step), bare = bareOf(step, normalized);
  const auto convolution = packedConvolution(bare);
  SourceNorm norm;
  if (normalized) norm = normOf(rest);
  dynamic_cast<const SummingConvolution&>(*convolution)
      .run({bare.inputs[0].f32(), normalized ? &norm : nullptr}, bare.inputs[1].f32(), biasOf(bare),
           bare.output.f32(), normalized ? workspaceBehindNorm(rest) : step.workspace, step.inputs[0].f32());
}

template <bool normalized>
static const char* algorithmOf(const Step& step) {
  return packedAlgorithmOf(bareOf(step, normalized));
}

static size_t onlyMoments(const Step&) { return 1; }

const KernelTable summedConvKernels = {
    {"conv3dPackedMoments", prepareSummed<false>, runSummed<false>, algorithmOf<false>, nullptr, onlyMoments},
    {"normalizeReluConv3dPackedMoments", prepareSummed<true>, runSummed<true>, algorithmOf<true>, nullptr,
     onlyMoments},
};

}  // namespace voxgrad::cpu
