#include "conv2d_winograd.h"
#include "conv2d_winograd_model.h"
#include "conv2d_winograd_weight_gradient.h"
#include "conv3d.h"
#include "conv3d_depthwise.h"
#include "conv3d_gather.h"
#include "conv3d_weight_gradient.h"
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
  return winogradFits(problem) && chooseAlgorithm(problem, pass) == ConvAlgorithm::winograd;
}

bool takesWinograd2d(const Conv3dProblem& problem, ConvPass pass) {
  return winograd2dFits(problem) && chooseAlgorithm(problem, pass) == ConvAlgorithm::winograd;
}

Winograd2d winograd2d(const Conv3dProblem& problem, ConvPass pass) {
  return {problem, pass == ConvPass::inputGradient, planWinograd2d(problem, pass).outputs};
}

Winograd2dWeightGradient winograd2dWeightGradient(const Conv3dProblem& problem) {
  return {problem, planWinograd2d(problem, ConvPass::weightGradient).outputs};
}

// The packed filters lie before what the run itself needs.
size_t winograd2dWorkspace(const Winograd2d& winograd) {
  return roundToLine(winograd.packedFloats() * sizeof(float)) + winograd.workspace();
}

void runWinograd2d(const Winograd2d& winograd, const float* source, const float* w, const float* bias,
                   float* output, void* workspace) {
  float* const packed = static_cast<float*>(workspace);
  winograd.pack(w, packed);
  winograd.run(source, packed, bias, output,
               static_cast<char*>(workspace) + roundToLine(winograd.packedFloats() * sizeof(float)));
}

}  // namespace

size_t conv3dForwardWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd2d(problem, ConvPass::forward))
    return winograd2dWorkspace(winograd2d(problem, ConvPass::forward));
  if (takesWinograd(problem, ConvPass::forward)) return Winograd(problem, false).workspace();
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : Gather(foldBlocks(problem), false, problem.K).workspace();
}

void conv3dForward(const Conv3dProblem& problem, const float* x, const float* w, const float* bias, float* y,
                   void* workspace) {
  if (takesWinograd2d(problem, ConvPass::forward))
    return runWinograd2d(winograd2d(problem, ConvPass::forward), x, w, bias, y, workspace);
  if (takesWinograd(problem, ConvPass::forward))
    return Winograd(problem, false).run(x, w, bias, y, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, false, x, w, bias, y, workspace);
  Gather(foldBlocks(problem), false, problem.K).run(x, w, bias, y, workspace);
}

size_t conv3dInputGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd2d(problem, ConvPass::inputGradient))
    return winograd2dWorkspace(winograd2d(problem, ConvPass::inputGradient));
  if (takesWinograd(problem, ConvPass::inputGradient)) return Winograd(problem, true).workspace();
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : Gather(foldBlocks(problem), true, problem.C).workspace();
}

void conv3dInputGradient(const Conv3dProblem& problem, const float* dy, const float* w, const float* bias,
                         float* dx, void* workspace) {
  if (takesWinograd2d(problem, ConvPass::inputGradient))
    return runWinograd2d(winograd2d(problem, ConvPass::inputGradient), dy, w, bias, dx, workspace);
  if (takesWinograd(problem, ConvPass::inputGradient))
    return Winograd(problem, true).run(dy, w, bias, dx, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, true, dy, w, bias, dx, workspace);
  Gather(foldBlocks(problem), true, problem.C).run(dy, w, bias, dx, workspace);
}

size_t conv3dWeightGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd2d(problem, ConvPass::weightGradient))
    return winograd2dWeightGradient(problem).workspace();
  if (takesWinograd(problem, ConvPass::weightGradient)) return WinogradWeightGradient(problem).workspace();
  return isDepthwise(problem) ? 0 : WeightGradient(foldBlocks(problem)).workspace();
}

void conv3dWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                          void* workspace) {
  if (takesWinograd2d(problem, ConvPass::weightGradient))
    return winograd2dWeightGradient(problem).run(x, dy, dw, workspace);
  if (takesWinograd(problem, ConvPass::weightGradient))
    return WinogradWeightGradient(problem).run(x, dy, dw, workspace);
  if (isDepthwise(problem)) return depthwiseWeightGradient(problem, x, dy, dw);
  WeightGradient(foldBlocks(problem)).run(x, dy, dw, workspace);
}

}  // namespace voxgrad::cpu
