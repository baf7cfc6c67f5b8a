// Weight gradients of convolutions: the steps of a plan, decoded and handed to the kernels.
#include "conv_gradient_ways.h"
#include "conv_steps.h"
#include "conv_weight_gradient.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// What a weight gradient reads: x and dy.
constexpr uint32_t gradientActivations = 3;

Conv3dProblem problemOfWeightGradient(const Step& step) {
  return weightGradientProblem(widened(step, gradientActivations));
}

// The ways of a step that is as `conv3dWeightGradient` has it, with what its source is normalised with left
// out.
std::vector<std::string> waysOfBare(const Step& bare, bool normalize) {
  const Conv3dProblem problem = problemOfWeightGradient(bare);
  const Precision precision = precisionOf(bare);
  std::vector<std::string> names;
  for (const GradientWay& way : gradientWaysOf(problem, precision, normalize))
    names.push_back(way.name(problem, precision));
  return names;
}

const char* algorithmOfBare(const Step& bare, bool normalize) {
  const Conv3dProblem problem = problemOfWeightGradient(bare);
  return gradientWayOf(bare, problem, normalize).name(problem, precisionOf(bare));
}

std::vector<std::string> weightGradientWays(const Step& step) { return waysOfBare(step, false); }

const char* weightGradientAlgorithm(const Step& step) { return algorithmOfBare(step, false); }

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  checkStorage(step, step.inputs[0]);
  checkExtents(step, problem);
  const GradientWay way = gradientWayOf(step, problem, false);
  if (way.kind != GradientWay::direct) checkBlocks(step, weightGradientBlocks({problem}, precision));
  return way.workspace(problem, precision);
}

GradientOperands operandsOf(const Step& step) {
  return {problemOfWeightGradient(step), precisionOf(step), step.inputs[0].data,
          step.inputs[1].data,           step.output.f32(), step.workspace};
}

void runWeightGradientStep(const Step& step) {
  const GradientOperands operands = operandsOf(step);
  gradientWayOf(step, operands.problem, false).run(operands);
}

// The same of a source that it normalises as it loads it.
bool normalizes(const Step& step) {
  return gradientWayOf(step, problemOfWeightGradient(step), false).normalizes();
}

size_t prepareNormalized(const Step& step) {
  expectInputs(step, 2 + normInputs, 2 + normInputs);
  const Step bare = withoutNorm(step, 0);
  const Conv3dProblem problem = problemOfWeightGradient(bare);
  for (const Tensor& input : bare.inputs) checkStorage(bare, input);
  checkNorm(step, 0);
  checkExtents(bare, problem);
  return gradientWayOf(bare, problem, true).normalizingWorkspace(problem, precisionOf(step));
}

void runNormalized(const Step& step) {
  const Step bare = withoutNorm(step, 0);
  const GradientOperands operands = operandsOf(bare);
  if (!aligned(operands.x) || !aligned(operands.dy) || !aligned(operands.dw))
    refuse(step, "it takes operands aligned to 16 bytes");
  gradientWayOf(bare, operands.problem, true).runNormalizing(operands, normOf(step, 0));
}

std::vector<std::string> normalizedWays(const Step& step) { return waysOfBare(withoutNorm(step, 0), true); }

const char* normalizedAlgorithm(const Step& step) { return algorithmOfBare(withoutNorm(step, 0), true); }

Kernel weightGradient() {
  Kernel own = narrowable(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes),
                          gradientActivations);
  own.normalizes = normalizes;
  return named(own, weightGradientAlgorithm, weightGradientWays);
}

}  // namespace

const KernelTable weightGradientKernels = {
    weightGradient(),
    named({"normalizeReluConv3dWeightGradient", prepareNormalized, runNormalized}, normalizedAlgorithm,
          normalizedWays),
};

}  // namespace voxgrad::cuda
