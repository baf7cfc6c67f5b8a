// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include <algorithm>

#include "../core/conv_step.h"
#include "cast.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo.h"
#include "conv_halo_weight_gradient.h"
#include "conv_pack.h"
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

void checkBlocks(const Step& step, int64_t blocks) {
  if (blocks >= int64_t{1} << 31) refuse(step, "it takes more than 2^31 blocks of threads");
}

void checkGather(const Step& step, const Conv3dProblem& problem, bool transposed) {
  checkExtents(step, problem);
  checkBlocks(step, gemmBlocks(gatherOf(problem, transposed)));
  checkBlocks(step, packBlocks(problem));
}

// What a kernel reads has the type of its precision.
void checkStorage(const Step& step, const Tensor& tensor) {
  const bool narrow = precisionOf(step) == Precision::bf16;
  expectDType(step, tensor, narrow ? DType::bf16 : DType::f32);
}

const char* gatherName(const Conv3dProblem& problem, bool transposed, Precision precision) {
  const Gather gather = gatherOf(problem, transposed);
  return isDirect(gather)               ? directName
         : suitsHalo(gather, precision) ? haloName(gather, precision)
                                        : gemmName(gather, precision);
}

void runGather(const Step& step, const Conv3dProblem& problem, bool transposed, const void* weights) {
  const GatherCall call{gatherOf(problem, transposed),
                        precisionOf(step),
                        step.inputs[0].data,
                        weights,
                        biasOf(step),
                        step.output.data,
                        step.output.dtype == DType::bf16};
  if (isDirect(call.gather))
    runDirect(call);
  else if (suitsHalo(call.gather, call.precision) && aligned(call.source) && aligned(call.weights))
    runHalo(call);
  else
    runGemm(call);
}

// Weights as they are, are float32, and so is what is multiplied with them.
void checkUnpacked(const Step& step) {
  if (precisionOf(step) == Precision::bf16) refuse(step, "bf16 takes packed weights");
}

size_t forwardWorkspace(const Step& step) {
  checkUnpacked(step);
  checkGather(step, forwardProblem(step), false);
  return 0;
}

void runForward(const Step& step) { runGather(step, forwardProblem(step), false, step.inputs[1].data); }

const char* forwardAlgorithm(const Step& step) {
  return gatherName(forwardProblem(step), false, precisionOf(step));
}

size_t inputGradientWorkspace(const Step& step) {
  checkUnpacked(step);
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

const char* inputGradientAlgorithm(const Step& step) {
  return gatherName(inputGradientProblem(step), true, precisionOf(step));
}

// Of a step that may read and write bf16.
Conv3dProblem problemOfPacked(const Step& step) { return packedProblem(widened(step, 1 | outputBit)); }

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const Conv3dProblem problem = problemOfPacked(step);
  checkStorage(step, step.inputs[0]);
  checkStorage(step, step.inputs[1]);
  if (step.output.dtype != DType::f32) checkStorage(step, step.output);
  expectCount(step, step.inputs[1], weightsOf(problem));
  checkGather(step, problem, isInputGradient(step));
  return 0;
}

void runPacked(const Step& step) {
  runGather(step, problemOfPacked(step), isInputGradient(step), step.inputs[1].data);
}

const char* packedAlgorithm(const Step& step) {
  return gatherName(problemOfPacked(step), isInputGradient(step), precisionOf(step));
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
  return isDirect(gatherOf(p, false)) && p.taps() < 65536 && weightsOf(p) < 1 << 24;
}

// What a weight gradient reads: x and dy.
constexpr uint32_t gradientActivations = 3;

Conv3dProblem problemOfWeightGradient(const Step& step) {
  return weightGradientProblem(widened(step, gradientActivations));
}

size_t weightGradientBytes(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  checkStorage(step, step.inputs[0]);
  checkExtents(step, problem);
  if (isDirectWeightGradient(problem)) return directWeightGradientWorkspace(problem);
  checkBlocks(step, weightGradientBlocks(problem, precision));
  // Either may run, as operands are aligned.
  const size_t halo =
      suitsHaloWeightGradient(problem, precision) ? haloWeightGradientWorkspace(problem, precision) : 0;
  return std::max(halo, weightGradientWorkspace(problem, precision));
}

void runWeightGradientStep(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  const void *x = step.inputs[0].data, *dy = step.inputs[1].data;
  const bool halo = suitsHaloWeightGradient(problem, precision) && aligned(x) && aligned(dy);
  const auto run = isDirectWeightGradient(problem) ? runDirectWeightGradient
                   : halo                          ? runHaloWeightGradient
                                                   : runWeightGradient;
  run({problem, precision, x, dy, step.output.f32(), step.workspace});
}

const char* weightGradientAlgorithm(const Step& step) {
  const Conv3dProblem problem = problemOfWeightGradient(step);
  const Precision precision = precisionOf(step);
  return isDirectWeightGradient(problem)               ? directName
         : suitsHaloWeightGradient(problem, precision) ? haloWeightGradientName(problem, precision)
                                                       : weightGradientName(problem, precision);
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
    named(narrowable(kernel("conv3dWeightGradient", runWeightGradientStep, weightGradientBytes),
                     gradientActivations),
          weightGradientAlgorithm),
};

}  // namespace voxgrad::cuda
