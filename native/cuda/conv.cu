// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include "conv_gemm.h"
#include "conv_pack.h"
#include "conv_steps.h"
#include "kernels.h"

namespace voxgrad::cuda {

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

std::vector<std::string> namesOf(const std::vector<GatherWay>& ways, const Gather& gather,
                                 Precision precision) {
  std::vector<std::string> names;
  for (const GatherWay& way : ways) names.push_back(way.name(gather, precision));
  return names;
}

namespace {

Extras extrasOf(const Step& step) { return {step.inputs.size() > 2}; }

size_t gatherBytes(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  return wayOf(step, gather, extrasOf(step)).workspace(gather, precisionOf(step), false);
}

const char* gatherName(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  return wayOf(step, gather, extrasOf(step)).name(gather, precisionOf(step));
}

std::vector<std::string> gatherWays(const Step& step, const Conv3dProblem& problem, bool transposed) {
  const Gather gather = gatherOf(problem, transposed);
  const Precision precision = precisionOf(step);
  return namesOf(waysOf(gather, precision, extrasOf(step)), gather, precision);
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
  wayOf(step, call.gather, extrasOf(step)).run(call, workspace);
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

}  // namespace

const KernelTable convKernels = {
    named(kernel("conv3d", runForward, forwardWorkspace), forwardAlgorithm, forwardWays),
    named(kernel("conv3dInputGradient", runInputGradient, inputGradientWorkspace), inputGradientAlgorithm,
          inputGradientWays),
};

}  // namespace voxgrad::cuda
