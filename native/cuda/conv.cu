// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include <algorithm>

#include "../core/conv_step.h"
#include "cast.h"
#include "conv_check.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo_weight_gradient.h"
#include "conv_head.h"
#include "conv_pack.h"
#include "conv_stem.h"
#include "conv_ways.h"
#include "conv_weight_gradient.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

int64_t weightsOf(const Conv3dProblem& p) { return p.K * p.taps() * (p.C / p.groups); }

// Kernels count positions along an axis, taps times channels of a group, and blocks in 32 bits.
void checkExtents(const Step& step, const Conv3dProblem& p) {
  constexpr int64_t most = (int64_t{1} << 31) - 1, room = most / 2;
  const int64_t x[3] = {p.D, p.H, p.W}, y[3] = {p.Z, p.P, p.Q}, taps[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; axis++)
    if (x[axis] + y[axis] * p.stride[axis] + taps[axis] * p.dilation[axis] + p.pad[axis] > most)
      refuse(step, "positions along axis " + std::to_string(axis) + " exceed 2^31");
  for (const int64_t channels : {p.C, p.K})
    if (channels > room || channels / p.groups > room / p.taps())
      refuse(step, "taps times channels exceed 2^30");
}

void checkGather(const Step& step, const Conv3dProblem& problem, bool transposed) {
  checkExtents(step, problem);
  checkBlocks(step, mostGemmBlocks(gatherOf(problem, transposed)));
  checkBlocks(step, packBlocks(problem));
}

size_t gatherBytes(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  return wayOf(step, gather).workspace(gather);
}

const char* gatherName(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  return wayOf(step, gather).name(gather, precisionOf(step));
}

std::vector<std::string> gatherWays(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  const Precision precision = precisionOf(step);
  std::vector<std::string> names;
  for (const GatherWay& way : waysOf(gather, precision)) names.push_back(way.name(gather, precision));
  return names;
}

void runGather(const Step& step, const Conv3dProblem& problem, bool transposed, const void* weights,
               void* workspace) {
  const GatherCall call{gatherOf(problem, transposed),
                        precisionOf(step),
                        step.inputs[0].data,
                        weights,
                        biasOf(step),
                        step.output.data,
                        step.output.dtype == DType::bf16};
  wayOf(step, call.gather).run(call, workspace);
}

// Weights as they are, are float32, and so is what is multiplied with them.
void checkUnpacked(const Step& step) {
  if (precisionOf(step) == Precision::bf16) refuse(step, "bf16 takes packed weights");
}

size_t forwardWorkspace(const Step& step) {
  checkUnpacked(step);
  const Conv3dProblem problem = forwardProblem(step);
  checkGather(step, problem, false);
  return gatherBytes(step, problem, false);
}

void runForward(const Step& step) {
  runGather(step, forwardProblem(step), false, step.inputs[1].data, step.workspace);
}

std::vector<std::string> forwardWays(const Step& step) {
  return gatherWays(step, forwardProblem(step), false);
}

const char* forwardAlgorithm(const Step& step) { return gatherName(step, forwardProblem(step), false); }

// Of weights that are packed in the workspace, in front of what the convolution needs there.
size_t packedBytes(const Conv3dProblem& problem) {
  return static_cast<size_t>(divideUp(weightsOf(problem), 64)) * 64 * sizeof(float);
}

size_t inputGradientWorkspace(const Step& step) {
  checkUnpacked(step);
  const Conv3dProblem problem = inputGradientProblem(step);
  checkGather(step, problem, true);
  return packedBytes(problem) + gatherBytes(step, problem, true);
}

void runInputGradient(const Step& step) {
  const Conv3dProblem problem = inputGradientProblem(step);
  auto* packed = static_cast<float*>(step.workspace);
  packTransposed(problem, step.inputs[1].f32(), packed);
  runGather(step, problem, true, packed, static_cast<char*>(step.workspace) + packedBytes(problem));
}

std::vector<std::string> inputGradientWays(const Step& step) {
  return gatherWays(step, inputGradientProblem(step), true);
}

const char* inputGradientAlgorithm(const Step& step) {
  return gatherName(step, inputGradientProblem(step), true);
}

// Of a step that may read and write bf16.
Conv3dProblem problemOfPacked(const Step& step) { return packedProblem(widened(step, 1 | outputBit)); }

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const Conv3dProblem problem = problemOfPacked(step);
  checkStorage(step, step.inputs[0]);
  checkStorage(step, step.inputs[1]);
  checkResult(step);
  expectCount(step, step.inputs[1], weightsOf(problem));
  checkGather(step, problem, isInputGradient(step));
  return gatherBytes(step, problem, isInputGradient(step));
}

void runPacked(const Step& step) {
  runGather(step, problemOfPacked(step), isInputGradient(step), step.inputs[1].data, step.workspace);
}

std::vector<std::string> packedWays(const Step& step) {
  return gatherWays(step, problemOfPacked(step), isInputGradient(step));
}

const char* packedAlgorithm(const Step& step) {
  return gatherName(step, problemOfPacked(step), isInputGradient(step));
}

int64_t packedFloats(const Step& step) {
  expectInputs(step, 1, 1);
  return weightsOf(packingProblem(step));
}

size_t preparePacking(const Step& step) {
  const int64_t floats = packedFloats(step);
  checkStorage(step, step.output);
  expectCount(step, step.output, floats);
  checkGather(step, packingProblem(step), isInputGradient(step));
  return 0;
}

void runPacking(const Step& step) {
  const Conv3dProblem problem = packingProblem(step);
  const float* w = step.inputs[0].f32();
  const bool narrow = step.output.dtype == DType::bf16;
  if (isInputGradient(step) && narrow)
    packTransposed(problem, w, dataOf<Bf16>(step.output));
  else if (isInputGradient(step))
    packTransposed(problem, w, step.output.f32());
  else if (narrow)
    castElements(w, dataOf<Bf16>(step.output), step.output.count());
  else
    check(cudaMemcpyAsync(step.output.data, step.inputs[0].data, step.output.bytes(),
                          cudaMemcpyDeviceToDevice, stream()),
          step.kernel->name);
}

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
         : suitsHeadWeightGradient(problem, precision) ? headWeightGradientName(problem)
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
  const size_t halo =
      suitsStemWeightGradient(problem, precision)   ? stemWeightGradientWorkspace(problem, precision)
      : suitsHeadWeightGradient(problem, precision) ? headWeightGradientWorkspace(problem, precision)
      : suitsHaloWeightGradient(problem, precision) ? haloWeightGradientWorkspace(problem, precision)
                                                    : 0;
  return std::max(halo, weightGradientWorkspace({problem}, precision));
}

void runWeightGradientStep(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  const void *x = step.inputs[0].data, *dy = step.inputs[1].data;
  const GradientOperands operands{problem, precision, x, dy, step.output.f32(), step.workspace};
  if (isCudnnWeightGradient(step))
    runCudnnWeightGradient(operands);
  else if (isDirectWeightGradient(problem))
    runDirectWeightGradient(operands);
  else if (suitsStemWeightGradient(problem, precision) && aligned(dy))
    runStemWeightGradient(operands);
  else if (suitsHeadWeightGradient(problem, precision) && aligned(x))
    runHeadWeightGradient(operands);
  else if (suitsHaloWeightGradient(problem, precision) && aligned(x) && aligned(dy))
    runHaloWeightGradient(operands);
  else
    runWeightGradients({operands});
}

const char* weightGradientAlgorithm(const Step& step) {
  const Precision precision = precisionOf(step);
  return isCudnnWeightGradient(step) ? cudnnName(precision)
                                     : ownWeightGradientName(problemOfWeightGradient(step), precision);
}

Kernel named(Kernel kernel, const char* (*algorithm)(const Step&),
             std::vector<std::string> (*ways)(const Step&) = nullptr) {
  kernel.algorithm = algorithm;
  kernel.ways = ways;
  return kernel;
}

}  // namespace

const KernelTable convKernels = {
    named(kernel("conv3d", runForward, forwardWorkspace), forwardAlgorithm, forwardWays),
    named(kernel("conv3dInputGradient", runInputGradient, inputGradientWorkspace), inputGradientAlgorithm,
          inputGradientWays),
    named({"conv3dPacked", preparePacked, runPacked}, packedAlgorithm, packedWays),
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloats},
    named(narrowable(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes),
                     gradientActivations),
          weightGradientAlgorithm, weightGradientWays),
};

}  // namespace voxgrad::cuda
