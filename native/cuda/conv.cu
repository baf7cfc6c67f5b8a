// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include <algorithm>
#include <cstdlib>

#include "../core/conv_step.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo.h"
#include "conv_halo_weight_gradient.h"
#include "conv_pack.h"
#include "conv_tile.h"
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
  checkBlocks(step, gemmBlocks(gatherOf(problem, transposed)));
  checkBlocks(step, packBlocks(problem));
}

const char* gatherName(const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  return isDirect(gather) ? directName : suitsHalo(gather) ? haloName(gather) : gemmName(gather);
}

void runGather(const Step& step, const Conv3dProblem& problem, bool transposed, const float* weights) {
  const GatherCall call{gatherOf(problem, transposed), step.inputs[0].f32(), weights, biasOf(step),
                        step.output.f32()};
  if (isDirect(call.gather))
    runDirect(call);
  else if (suitsHalo(call.gather) && aligned(call.source) && aligned(call.weights))
    runHalo(call);
  else
    runGemm(call);
}

size_t forwardWorkspace(const Step& step) {
  checkGather(step, forwardProblem(step), false);
  return 0;
}

void runForward(const Step& step) { runGather(step, forwardProblem(step), false, step.inputs[1].f32()); }

const char* forwardAlgorithm(const Step& step) { return gatherName(forwardProblem(step), false); }

size_t inputGradientWorkspace(const Step& step) {
  const Conv3dProblem problem = inputGradientProblem(step);
  checkGather(step, problem, true);
  return static_cast<size_t>(weightsOf(problem)) * sizeof(float);
}

void runInputGradient(const Step& step) {
  const Conv3dProblem problem = inputGradientProblem(step);
  auto* packed = static_cast<float*>(step.workspace);
  packTransposed(problem, step.inputs[1].f32(), packed);
  runGather(step, problem, true, packed);
}

const char* inputGradientAlgorithm(const Step& step) { return gatherName(inputGradientProblem(step), true); }

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const Conv3dProblem problem = packedProblem(step);
  expectDType(step, step.inputs[1], DType::f32);
  expectCount(step, step.inputs[1], weightsOf(problem));
  checkGather(step, problem, isInputGradient(step));
  return 0;
}

void runPacked(const Step& step) {
  runGather(step, packedProblem(step), isInputGradient(step), step.inputs[1].f32());
}

const char* packedAlgorithm(const Step& step) {
  return gatherName(packedProblem(step), isInputGradient(step));
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
  return isDirect(gatherOf(p, false)) && p.taps() < 65536 && weightsOf(p) < 1 << 24;
}

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  checkExtents(step, problem);
  if (isDirectWeightGradient(problem)) return directWeightGradientWorkspace(problem);
  checkBlocks(step, weightGradientBlocks({problem}));
  // Either may run, as operands are aligned.
  const size_t halo = suitsHaloWeightGradient(problem) ? haloWeightGradientWorkspace(problem) : 0;
  return std::max(halo, weightGradientWorkspace({problem}));
}

void runWeightGradientStep(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  const bool halo =
      suitsHaloWeightGradient(problem) && aligned(step.inputs[0].data) && aligned(step.inputs[1].data);
  const float *const x = step.inputs[0].f32(), *const dy = step.inputs[1].f32();
  float* const dw = step.output.f32();
  if (isDirectWeightGradient(problem))
    runDirectWeightGradient(problem, x, dy, dw, step.workspace);
  else if (halo)
    runHaloWeightGradient(problem, x, dy, dw, step.workspace);
  else
    runWeightGradients({{problem, x, dy, dw}}, step.workspace);
}

const char* weightGradientAlgorithm(const Step& step) {
  const Conv3dProblem problem = weightGradientProblem(step);
  return isDirectWeightGradient(problem)    ? directName
         : suitsHaloWeightGradient(problem) ? haloWeightGradientName(problem)
                                            : weightGradientName(problem);
}

Kernel named(Kernel kernel, const char* (*algorithm)(const Step&)) {
  kernel.algorithm = algorithm;
  return kernel;
}

}  // namespace

const KernelTable convKernels = {
    named(kernel("conv3d", runForward, forwardWorkspace), forwardAlgorithm),
    named(kernel("conv3dInputGradient", runInputGradient, inputGradientWorkspace), inputGradientAlgorithm),
    {"conv3dPacked", preparePacked, runPacked, packedAlgorithm},
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloats},
    named(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes),
          weightGradientAlgorithm),
};

}  // namespace voxgrad::cuda
