// The convolution steps of a plan whose source is normalised as it is loaded.
#include "conv3d_geometry.h"
#include "conv_steps.h"
#include "kernels.h"
#include "norm.h"

namespace voxgrad::cpu {

Step withoutNorm(const Step& step) {
  Step bare = step;
  bare.inputs.erase(bare.inputs.begin() + 1, bare.inputs.begin() + 4);
  return bare;
}

static int64_t coefficientFloats(const Step& step) { return divideUp(step.inputs[0].channels(), 16) * 16; }

static size_t normBytes(const Step& step) {
  return static_cast<size_t>(3 * coefficientFloats(step)) * sizeof(float);
}

static void checkNorm(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  if (sets.sets != 1) refuse(step, "samples have moments of their own");
  for (size_t i : {2, 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], sets.channels);
  }
  epsilonOf(step);
}

SourceNorm normOf(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const double epsilon = epsilonOf(step);
  const int64_t floats = coefficientFloats(step);
  float *const mean = static_cast<float*>(step.workspace), *const scale = mean + floats,
               *const shift = scale + floats;
  std::fill_n(mean, 3 * floats, 0.0f);
  for (int64_t c = 0; c < sets.channels; ++c) {
    const float* const own = sets.momentsOf(step.inputs[1].f32(), 0, c);
    mean[c] = own[0];
    scale[c] = scaleOf(step.inputs[2].f32()[c], own, epsilon);
    shift[c] = step.inputs[3].f32()[c];
  }
  return {mean, scale, shift};
}

void* workspaceBehindNorm(const Step& step) { return static_cast<char*>(step.workspace) + normBytes(step); }

bool packedNormalizes(const Step& step) {
  const auto convolution = packedConvolution(step);
  const auto* const normalizing = dynamic_cast<const NormalizingConvolution*>(convolution.get());
  return normalizing && normalizing->normalizes();
}

size_t prepareNormalizedPacked(const Step& step) {
  expectInputs(step, 5, 6);
  checkNorm(step);
  const Step bare = withoutNorm(step);
  const size_t bytes = preparePacked(bare);
  if (!packedNormalizes(bare)) refuse(step, "its algorithm does not normalise");
  return normBytes(step) + bytes;
}

static void runNormalizedPacked(const Step& step) {
  const Step bare = withoutNorm(step);
  const auto convolution = packedConvolution(bare);
  const SourceNorm norm = normOf(step);
  dynamic_cast<const NormalizingConvolution&>(*convolution)
      .run(ConvolutionSource{bare.inputs[0].f32(), &norm}, bare.inputs[1].f32(), biasOf(bare),
           bare.output.f32(), workspaceBehindNorm(step));
}

bool weightGradientNormalizes(const Step& step) {
  const auto gradient = makeWeightGradient(weightGradientProblem(step));
  return dynamic_cast<const NormalizingWeightGradient*>(gradient.get());
}

static size_t prepareNormalizedWeightGradient(const Step& step) {
  expectInputs(step, 5, 5);
  checkNorm(step);
  const Step bare = withoutNorm(step);
  const size_t bytes = prepareWeightGradient(bare);
  if (!weightGradientNormalizes(bare)) refuse(step, "its algorithm does not normalise");
  return normBytes(step) + bytes;
}

static void runNormalizedWeightGradient(const Step& step) {
  const Step bare = withoutNorm(step);
  const auto gradient = makeWeightGradient(weightGradientProblem(bare));
  const SourceNorm norm = normOf(step);
  dynamic_cast<const NormalizingWeightGradient&>(*gradient).run(
      ConvolutionSource{bare.inputs[0].f32(), &norm}, bare.inputs[1].f32(), bare.output.f32(),
      workspaceBehindNorm(step));
}

const KernelTable normalizedConvKernels = {
    {"normalizeReluConv3dPacked", prepareNormalizedPacked, runNormalizedPacked,
     [](const Step& step) { return packedAlgorithmOf(withoutNorm(step)); }, nullptr, nullptr, nullptr,
     [](const Step& step) { return packedSums(withoutNorm(step)); }},
    {"normalizeReluConv3dWeightGradient", prepareNormalizedWeightGradient, runNormalizedWeightGradient,
     [](const Step& step) { return weightGradientAlgorithmOf(withoutNorm(step)); }},
};

}  // namespace voxgrad::cpu
