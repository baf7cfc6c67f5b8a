// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include <algorithm>
#include <cstdlib>

#include "../core/conv_step.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo_weight_gradient.h"
#include "conv_pack.h"
#include "conv_tile.h"
#include "conv_ways.h"
#include "conv_weight_gradient.h"
#include "kernels.h"

namespace voxgrad::cuda {

bool strictPrecision() {
  static const bool strict = [] {
    const char* const value = std::getenv("VOXGRAD_PRECISION");
    const std::string text = value != nullptr ? value : "";
    if (!text.empty() && text != "f32" && text != "tf32")
      throw Error("ERR_DEVICE", "VOXGRAD_PRECISION: expected f32 or tf32, found '" + text + "'");
    return text != "tf32";
  }();
  return strict;
}

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

void checkBlocks(const Step& step, int64_t blocks) {
  if (blocks >= int64_t{1} << 31) refuse(step, "it takes more than 2^31 blocks of threads");
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
  return wayOf(step, gather).name(gather);
}

std::vector<std::string> gatherWays(const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  std::vector<std::string> names;
  for (const GatherWay& way : waysOf(gather)) names.push_back(way.name(gather));
  return names;
}

void runGather(const Step& step, const Conv3dProblem& problem, bool transposed, const float* weights,
               void* workspace) {
  const GatherCall call{gatherOf(problem, transposed), step.inputs[0].f32(), weights, biasOf(step),
                        step.output.f32()};
  wayOf(step, call.gather).run(call, workspace);
}

size_t forwardWorkspace(const Step& step) {
  const Conv3dProblem problem = forwardProblem(step);
  checkGather(step, problem, false);
  return gatherBytes(step, problem, false);
}

void runForward(const Step& step) {
  runGather(step, forwardProblem(step), false, step.inputs[1].f32(), step.workspace);
}

std::vector<std::string> forwardWays(const Step& step) { return gatherWays(forwardProblem(step), false); }

const char* forwardAlgorithm(const Step& step) { return gatherName(step, forwardProblem(step), false); }

// Of weights that are packed in the workspace, in front of what the convolution needs there.
size_t packedBytes(const Conv3dProblem& problem) {
  return static_cast<size_t>(divideUp(weightsOf(problem), 64)) * 64 * sizeof(float);
}

size_t inputGradientWorkspace(const Step& step) {
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
  return gatherWays(inputGradientProblem(step), true);
}

const char* inputGradientAlgorithm(const Step& step) {
  return gatherName(step, inputGradientProblem(step), true);
}

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const Conv3dProblem problem = packedProblem(step);
  expectDType(step, step.inputs[1], DType::f32);
  expectCount(step, step.inputs[1], weightsOf(problem));
  checkGather(step, problem, isInputGradient(step));
  return gatherBytes(step, problem, isInputGradient(step));
}

void runPacked(const Step& step) {
  runGather(step, packedProblem(step), isInputGradient(step), step.inputs[1].f32(), step.workspace);
}

std::vector<std::string> packedWays(const Step& step) {
  return gatherWays(packedProblem(step), isInputGradient(step));
}

const char* packedAlgorithm(const Step& step) {
  return gatherName(step, packedProblem(step), isInputGradient(step));
}

int64_t packedFloats(const Step& step) {
  expectInputs(step, 1, 1);
  return weightsOf(packingProblem(step));
}

size_t preparePacking(const Step& step) {
  const int64_t floats = packedFloats(step);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, floats);
  checkGather(step, packingProblem(step), isInputGradient(step));
  return 0;
}

void runPacking(const Step& step) {
  const Conv3dProblem problem = packingProblem(step);
  if (isInputGradient(step))
    packTransposed(problem, step.inputs[0].f32(), step.output.f32());
  else
    check(cudaMemcpyAsync(step.output.data, step.inputs[0].data, step.output.bytes(),
                          cudaMemcpyDeviceToDevice, stream()),
          step.kernel->name);
}

// Whether the sums of a weight gradient fit the grid of columnSums.
bool isDirectWeightGradient(const Conv3dProblem& p) {
  return isDirect(gatherOf(p, false)) && weightsOf(p) < 65535 << 8;
}

const char* ownWeightGradientName(const Conv3dProblem& problem) {
  return isDirectWeightGradient(problem)    ? directName
         : suitsHaloWeightGradient(problem) ? haloWeightGradientName(problem)
                                            : weightGradientName(problem);
}

std::vector<std::string> weightGradientWays(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  std::vector<std::string> names = {ownWeightGradientName(problem)};
  size_t bytes = 0;
  if (!isDirectWeightGradient(problem) && cudnnTakesWeightGradient(problem, &bytes))
    names.push_back(cudnnName());
  return names;
}

// Whether the step asks for the only other way than ours.
bool isCudnnWeightGradient(const Step& step) {
  return step.attributes.has("way") && wayNumber(step, weightGradientWays(step).size()) == 1;
}

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  checkExtents(step, problem);
  size_t bytes = 0;
  if (isCudnnWeightGradient(step) && cudnnTakesWeightGradient(problem, &bytes)) return bytes;
  if (isDirectWeightGradient(problem)) return directWeightGradientWorkspace(problem);
  checkBlocks(step, weightGradientBlocks(problem));
  // Either may run, as operands are aligned.
  const size_t halo = suitsHaloWeightGradient(problem) ? haloWeightGradientWorkspace(problem) : 0;
  return std::max(halo, weightGradientWorkspace(problem));
}

void runWeightGradientStep(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  if (isCudnnWeightGradient(step))
    return runCudnnWeightGradient(problem, step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32(),
                                  step.workspace);
  const bool halo =
      suitsHaloWeightGradient(problem) && aligned(step.inputs[0].data) && aligned(step.inputs[1].data);
  const auto run = isDirectWeightGradient(problem) ? runDirectWeightGradient
                   : halo                          ? runHaloWeightGradient
                                                   : runWeightGradient;
  run(problem, step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32(), step.workspace);
}

const char* weightGradientAlgorithm(const Step& step) {
  return isCudnnWeightGradient(step) ? cudnnName() : ownWeightGradientName(weightGradientProblem(step));
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
    named(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes), weightGradientAlgorithm,
          weightGradientWays),
};

}  // namespace voxgrad::cuda
