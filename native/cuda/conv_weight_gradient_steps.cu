// Weight gradients of convolutions: the steps of a plan, decoded and handed to the kernels.
#include <algorithm>

#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_halo_weight_gradient.h"
#include "conv_stem.h"
#include "conv_steps.h"
#include "conv_weight_gradient.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// Whether the sums of a weight gradient fit the grid of columnSums.
bool isDirectWeightGradient(const Conv3dProblem& p) {
  return isDirect(gatherOf(p, false)) && weightsOf(p) < 65535 << 8;
}

// What a weight gradient reads: x and dy.
constexpr uint32_t gradientActivations = 3;

Conv3dProblem problemOfWeightGradient(const Step& step) {
  return weightGradientProblem(widened(step, gradientActivations));
}

const char* ownWeightGradientName(const Conv3dProblem& problem, Precision precision) {
  return isDirectWeightGradient(problem)               ? directName
         : suitsStemWeightGradient(problem, precision) ? stemWeightGradientName(problem, precision)
         : suitsHaloWeightGradient(problem, precision) ? haloWeightGradientName(problem, precision)
                                                       : weightGradientName(problem, precision);
}

std::vector<std::string> weightGradientWays(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  std::vector<std::string> names = {ownWeightGradientName(problem, precision)};
  size_t bytes = 0;
  if (!isDirectWeightGradient(problem) && cudnnTakesWeightGradient(problem, precision, &bytes))
    names.push_back(cudnnName(precision));
  return names;
}

// Whether the step asks for the only other way than ours.
bool isCudnnWeightGradient(const Step& step) {
  return step.attributes.has("way") && wayNumber(step, weightGradientWays(step).size()) == 1;
}

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  checkStorage(step, step.inputs[0]);
  checkExtents(step, problem);
  size_t bytes = 0;
  if (isCudnnWeightGradient(step) && cudnnTakesWeightGradient(problem, precision, &bytes)) return bytes;
  if (isDirectWeightGradient(problem)) return directWeightGradientWorkspace(problem);
  checkBlocks(step, weightGradientBlocks({problem}, precision));
  // Either may run, as operands are aligned.
  const size_t other =
      suitsStemWeightGradient(problem, precision)   ? stemWeightGradientWorkspace(problem, precision)
      : suitsHaloWeightGradient(problem, precision) ? haloWeightGradientWorkspace(problem, precision)
                                                    : 0;
  return std::max(other, weightGradientWorkspace({problem}, precision));
}

GradientOperands operandsOf(const Step& step) {
  return {problemOfWeightGradient(step), precisionOf(step), step.inputs[0].data,
          step.inputs[1].data,           step.output.f32(), step.workspace};
}

bool areAligned(const GradientOperands& operands) { return aligned(operands.x) && aligned(operands.dy); }

void runWeightGradientStep(const Step& step) {
  const GradientOperands operands = operandsOf(step);
  if (isCudnnWeightGradient(step))
    runCudnnWeightGradient(operands);
  else if (isDirectWeightGradient(operands.problem))
    runDirectWeightGradient(operands);
  else if (suitsStemWeightGradient(operands.problem, operands.precision) && aligned(operands.dy))
    runStemWeightGradient(operands);
  else if (suitsHaloWeightGradient(operands.problem, operands.precision) && areAligned(operands))
    runHaloWeightGradient(operands);
  else
    runWeightGradients({operands});
}

const char* weightGradientAlgorithm(const Step& step) {
  const Precision precision = precisionOf(step);
  return isCudnnWeightGradient(step) ? cudnnName(precision)
                                     : ownWeightGradientName(problemOfWeightGradient(step), precision);
}

// The same of a source that it normalises as it loads it, which only blocks with a halo do.
bool normalizes(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  return !isDirectWeightGradient(problem) && suitsHaloWeightGradient(problem, precisionOf(step));
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
  if (!areAligned(operands)) refuse(step, "it takes operands aligned to 16 bytes");
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
