// Weight gradients of convolutions: the steps of a plan, decoded and handed to the kernels.
#include "conv_gradient_ways.h"
#include "conv_halo_weight_gradient.h"
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

std::vector<std::string> weightGradientWays(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  std::vector<std::string> names;
  for (const GradientWay& way : gradientWaysOf(problem, precision))
    names.push_back(way.name(problem, precision));
  return names;
}

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  checkStorage(step, step.inputs[0]);
  checkExtents(step, problem);
  const GradientWay way = gradientWayOf(step, problem);
  if (way.kind != GradientWay::direct) checkBlocks(step, weightGradientBlocks({problem}, precision));
  return way.workspace(problem, precision);
}

GradientOperands operandsOf(const Step& step) {
  return {problemOfWeightGradient(step), precisionOf(step), step.inputs[0].data,
          step.inputs[1].data,           step.output.f32(), step.workspace};
}

void runWeightGradientStep(const Step& step) {
  const GradientOperands operands = operandsOf(step);
  gradientWayOf(step, operands.problem).run(operands);
}

const char* weightGradientAlgorithm(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  return gradientWayOf(step, problem).name(problem, precisionOf(step));
}

// The same of a source that it normalises as it loads it, which only blocks with a halo do.
bool normalizes(const Step& step) {
  return gradientWayOf(step, problemOfWeightGradient(step)).kind == GradientWay::halo;
}

size_t prepareNormalized(const Step& step) {
  expectInputs(step, 2 + normInputs, 2 + normInputs);
  const Step bare = withoutNorm(step, 0);
  const Conv3dProblem problem = problemOfWeightGradient(bare);
  for (const Tensor& input : bare.inputs) checkStorage(bare, input);
  checkNorm(step, 0);
  checkExtents(bare, problem);
  if (!normalizes(bare)) refuse(step, "its algorithm does not normalise");
  return haloWeightGradientWorkspace(problem, precisionOf(step));
}

void runNormalized(const Step& step) {
  const GradientOperands operands = operandsOf(withoutNorm(step, 0));
  if (!aligned(operands.x) || !aligned(operands.dy)) refuse(step, "it takes operands aligned to 16 bytes");
  runHaloWeightGradient(operands, normOf(step, 0));
}

const char* normalizedAlgorithm(const Step& step) {
  return haloWeightGradientName(problemOfWeightGradient(withoutNorm(step, 0)), precisionOf(step));
}

Kernel weightGradient() {
  Kernel own = narrowable(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes),
                          gradientActivations);
  own.normalizes = normalizes;
  return named(own, weightGradientAlgorithm, weightGradientWays);
}

}  // namespace

const KernelTable weightGradientKernels = {
    weightGradient(),
    {"normalizeReluConv3dWeightGradient", prepareNormalized, runNormalized, normalizedAlgorithm},
};

}  // namespace voxgrad::cuda
