// The convolution steps of a plan: checked, and handed to the kernels.
#include "../core/conv_step.h"
#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv_steps.h"
#include "kernels.h"

namespace voxgrad::cpu {

template <bool inputGradient>
static Conv3dProblem problemOfStep(const Step& step) {
  return inputGradient ? inputGradientProblem(step) : forwardProblem(step);
}

template <bool inputGradient>
static size_t prepareConvolution(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  return packAndRunWorkspace(*makeConvolution(problemOfStep<inputGradient>(step), inputGradient));
}

template <bool inputGradient>
static void runConvolution(const Step& step) {
  packAndRun(*makeConvolution(problemOfStep<inputGradient>(step), inputGradient), step.inputs[0].f32(),
             step.inputs[1].f32(), biasOf(step), step.output.f32(), step.workspace);
}

// The same with weights that a step of its own has packed.
static std::unique_ptr<Convolution> convolutionOf(const Step& step, const Conv3dProblem& problem) {
  return makeConvolution(problem, isInputGradient(step), isPackedOnce(step));
}

std::unique_ptr<Convolution> packedConvolution(const Step& step) {
  return convolutionOf(step, packedProblem(step));
}

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const Conv3dProblem problem = packedProblem(step);
  const auto convolution = convolutionOf(step, problem);
  expectDType(step, step.inputs[1], DType::f32);
  expectCount(step, step.inputs[1], weightFloats(*convolution, problem));
  return convolution->workspace();
}

static void runPacked(const Step& step) {
  packedConvolution(step)->run(step.inputs[0].f32(), step.inputs[1].f32(), biasOf(step), step.output.f32(),
                               step.workspace);
}

static int64_t packedFloatsOf(const Step& step) {
  expectInputs(step, 1, 1);
  return static_cast<int64_t>(convolutionOf(step, packingProblem(step))->packedFloats());
}

static size_t preparePacking(const Step& step) {
  const int64_t floats = packedFloatsOf(step);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, floats);
  return 0;
}

static void runPacking(const Step& step) {
  convolutionOf(step, packingProblem(step))->pack(step.inputs[0].f32(), step.output.f32());
}

size_t prepareWeightGradient(const Step& step) {
  expectInputs(step, 2, 2);
  return makeWeightGradient(weightGradientProblem(step))->workspace();
}

static void runWeightGradient(const Step& step) {
  makeWeightGradient(weightGradientProblem(step))
      ->run(step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32(), step.workspace);
}

const char* weightGradientAlgorithmOf(const Step& step) {
  return algorithmName(weightGradientProblem(step), ConvPass::weightGradient);
}

template <Conv3dProblem (*problemOfStep)(const Step&), ConvPass pass>
static const char* algorithmOf(const Step& step) {
  return algorithmName(problemOfStep(step), pass);
}

const char* packedAlgorithmOf(const Step& step) {
  const ConvPass pass = isInputGradient(step) ? ConvPass::inputGradient : ConvPass::forward;
  return algorithmName(packedProblem(step), pass, isPackedOnce(step));
}

const KernelTable convKernels = {
    {"conv3d", prepareConvolution<false>, runConvolution<false>,
     algorithmOf<forwardProblem, ConvPass::forward>},
    {"conv3dInputGradient", prepareConvolution<true>, runConvolution<true>,
     algorithmOf<inputGradientProblem, ConvPass::inputGradient>},
    {"conv3dPacked", preparePacked, runPacked, packedAlgorithmOf, nullptr, nullptr, packedNormalizes,
     packedSums},
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloatsOf},
    {"conv3dWeightGradient", prepareWeightGradient, runWeightGradient, weightGradientAlgorithmOf, nullptr,
     nullptr, weightGradientNormalizes},
};

}  // namespace voxgrad::cpu
