#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv3d_depthwise.h"
#include "conv3d_gather.h"
#include "conv3d_weight_gradient.h"
#include "conv3d_weight_gradient_taps.h"
#include "conv3d_winograd.h"
#include "conv3d_winograd_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

// Kernels as wide as their stride, without padding, cut rows into blocks that do not overlap: the T voxels of
// a block are then the channels of one voxel, and a dense kernel of one tap along W meets it. The buffers
// stay as they are. This is the 2x2x2 up- and down-sampling of V-Net.
Conv3dProblem foldBlocks(const Conv3dProblem& problem) {
  Conv3dProblem p = problem;
  const bool blocks = p.T > 1 && p.groups == 1 && p.stride[2] == p.T && p.dilation[2] == 1 && p.pad[2] == 0;
  if (!blocks || p.W != p.Q * p.T) return p;
  p.C *= p.T;
  p.W = p.Q;
  p.T = p.stride[2] = 1;
  return p;
}

// Whatever Winograd cannot do, or would do slower, the direct kernels do.
bool takesWinograd(const Conv3dProblem& problem, ConvPass pass) {
  return chooseAlgorithm(problem, pass) == ConvAlgorithm::winograd;
}

// The packed weights lie in front of what the gather itself needs.
size_t gatherWorkspace(const Gather& gather) {
  return roundToLine(gather.packedFloats() * sizeof(float)) + gather.workspace();
}

void packAndRun(const Gather& gather, const float* source, const float* w, const float* bias, float* output,
                void* workspace) {
  float* const packed = static_cast<float*>(workspace);
  gather.pack(w, packed);
  char* const rest = static_cast<char*>(workspace) + roundToLine(gather.packedFloats() * sizeof(float));
  gather.run(source, packed, bias, output, rest);
}

}  // namespace

size_t conv3dForwardWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::forward)) return Winograd(problem, false).workspace();
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : gatherWorkspace(Gather(foldBlocks(problem), false, problem.K));
}

void conv3dForward(const Conv3dProblem& problem, const float* x, const float* w, const float* bias, float* y,
                   void* workspace) {
  if (takesWinograd(problem, ConvPass::forward))
    return Winograd(problem, false).run(x, w, bias, y, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, false, x, w, bias, y, workspace);
  packAndRun(Gather(foldBlocks(problem), false, problem.K), x, w, bias, y, workspace);
}

size_t conv3dInputGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::inputGradient)) return Winograd(problem, true).workspace();
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : gatherWorkspace(Gather(foldBlocks(problem), true, problem.C));
}

void conv3dInputGradient(const Conv3dProblem& problem, const float* dy, const float* w, const float* bias,
                         float* dx, void* workspace) {
  if (takesWinograd(problem, ConvPass::inputGradient))
    return Winograd(problem, true).run(dy, w, bias, dx, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, true, dy, w, bias, dx, workspace);
  packAndRun(Gather(foldBlocks(problem), true, problem.C), dy, w, bias, dx, workspace);
}

size_t conv3dWeightGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::weightGradient)) return WinogradWeightGradient(problem).workspace();
  if (isDepthwise(problem)) return 0;
  const Conv3dProblem folded = foldBlocks(problem);
  return TapWeightGradient::pays(folded) ? TapWeightGradient(folded).workspace()
                                         : WeightGradient(folded).workspace();
}

void conv3dWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                          void* workspace) {
  if (takesWinograd(problem, ConvPass::weightGradient))
    return WinogradWeightGradient(problem).run(x, dy, dw, workspace);
  if (isDepthwise(problem)) return depthwiseWeightGradient(problem, x, dy, dw);
  const Conv3dProblem folded = foldBlocks(problem);
  if (TapWeightGradient::pays(folded)) return TapWeightGradient(folded).run(x, dy, dw, workspace);
  WeightGradient(folded).run(x, dy, dw, workspace);
}

}  // namespace voxgrad::cpu
