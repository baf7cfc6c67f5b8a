#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv3d_dense.h"
#include "conv3d_dense_weight_gradient.h"
#include "conv3d_depthwise.h"
#include "conv3d_gather.h"
#include "conv3d_stem.h"
#include "conv3d_weight_gradient.h"
#include "conv3d_winograd.h"
#include "conv3d_winograd_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

enum class Direct { depthwise, dense, stem, gather };

// The direct kernels of a problem and a pass.
Direct directOf(const Conv3dProblem& problem, ConvPass pass) {
  if (isDepthwise(problem)) return Direct::depthwise;
  if (isBlockwise(problem)) return Direct::dense;
  return isStem(problem) && pass != ConvPass::inputGradient ? Direct::stem : Direct::gather;
}

bool takesDense(const Conv3dProblem& problem, ConvPass pass) {
  const Direct direct = directOf(problem, pass);
  return direct == Direct::dense || direct == Direct::stem;
}

// Packed weights lie at the start of the workspace.
size_t denseWorkspace(const Dense& dense) {
  return roundToLine(dense.packedFloats() * sizeof(float)) + dense.workspace();
}

void runDense(const Dense& dense, const float* source, const float* w, const float* bias, float* output,
              void* workspace) {
  WorkspaceCursor cursor(workspace);
  float* const packed = cursor.floats(static_cast<int64_t>(dense.packedFloats()));
  dense.pack(w, packed);
  dense.run(source, packed, bias, output, static_cast<char*>(workspace) + cursor.used());
}

// Whatever Winograd cannot do, or would do slower, the direct kernels do.
bool takesWinograd(const Conv3dProblem& problem, ConvPass pass) {
  return chooseAlgorithm(problem, pass) == ConvAlgorithm::winograd;
}

}  // namespace

size_t conv3dForwardWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::forward)) return Winograd(problem, false).workspace();
  if (takesDense(problem, ConvPass::forward)) return denseWorkspace(Dense(problem, false));
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : Gather(problem, false, problem.K).workspace();
}

void conv3dForward(const Conv3dProblem& problem, const float* x, const float* w, const float* bias, float* y,
                   void* workspace) {
  if (takesWinograd(problem, ConvPass::forward))
    return Winograd(problem, false).run(x, w, bias, y, workspace);
  if (takesDense(problem, ConvPass::forward))
    return runDense(Dense(problem, false), x, w, bias, y, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, false, x, w, bias, y, workspace);
  Gather(problem, false, problem.K).run(x, w, bias, y, workspace);
}

size_t conv3dInputGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::inputGradient)) return Winograd(problem, true).workspace();
  if (takesDense(problem, ConvPass::inputGradient)) return denseWorkspace(Dense(problem, true));
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem)
                              : Gather(problem, true, problem.C).workspace();
}

void conv3dInputGradient(const Conv3dProblem& problem, const float* dy, const float* w, const float* bias,
                         float* dx, void* workspace) {
  if (takesWinograd(problem, ConvPass::inputGradient))
    return Winograd(problem, true).run(dy, w, bias, dx, workspace);
  if (takesDense(problem, ConvPass::inputGradient))
    return runDense(Dense(problem, true), dy, w, bias, dx, workspace);
  if (isDepthwise(problem)) return depthwiseGather(problem, true, dy, w, bias, dx, workspace);
  Gather(problem, true, problem.C).run(dy, w, bias, dx, workspace);
}

size_t conv3dWeightGradientWorkspace(const Conv3dProblem& problem) {
  if (takesWinograd(problem, ConvPass::weightGradient)) return WinogradWeightGradient(problem).workspace();
  switch (directOf(problem, ConvPass::weightGradient)) {
    case Direct::depthwise:
      return 0;
    case Direct::dense:
      return DenseWeightGradient(problem).workspace();
    case Direct::stem:
      return StemWeightGradient(problem).workspace();
    case Direct::gather:
      return WeightGradient(problem).workspace();
  }
  return 0;
}

void conv3dWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                          void* workspace) {
  if (takesWinograd(problem, ConvPass::weightGradient))
    return WinogradWeightGradient(problem).run(x, dy, dw, workspace);
  switch (directOf(problem, ConvPass::weightGradient)) {
    case Direct::depthwise:
      return depthwiseWeightGradient(problem, x, dy, dw);
    case Direct::dense:
      return DenseWeightGradient(problem).run(x, dy, dw, workspace);
    case Direct::stem:
      return StemWeightGradient(problem).run(x, dy, dw, workspace);
    case Direct::gather:
      return WeightGradient(problem).run(x, dy, dw, workspace);
  }
}

}  // namespace voxgrad::cpu
