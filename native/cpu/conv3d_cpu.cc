#include "conv3d.h"
#include "conv3d_depthwise.h"
#include "conv3d_gather.h"
#include "conv3d_weight_gradient.h"

namespace voxgrad::cpu {

size_t conv3dForwardWorkspace(const Conv3dProblem& problem) {
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem) : Gather(problem, false).workspace();
}

void conv3dForward(const Conv3dProblem& problem, const float* x, const float* w, const float* bias, float* y,
                   void* workspace) {
  if (isDepthwise(problem)) return depthwiseGather(problem, false, x, w, bias, y, workspace);
  Gather(problem, false).run(x, w, bias, y, workspace);
}

size_t conv3dInputGradientWorkspace(const Conv3dProblem& problem) {
  return isDepthwise(problem) ? depthwiseGatherWorkspace(problem) : Gather(problem, true).workspace();
}

void conv3dInputGradient(const Conv3dProblem& problem, const float* dy, const float* w, const float* bias,
                         float* dx, void* workspace) {
  if (isDepthwise(problem)) return depthwiseGather(problem, true, dy, w, bias, dx, workspace);
  Gather(problem, true).run(dy, w, bias, dx, workspace);
}

size_t conv3dWeightGradientWorkspace(const Conv3dProblem& problem) {
  return isDepthwise(problem) ? 0 : WeightGradient(problem).workspace();
}

void conv3dWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                          void* workspace) {
  if (isDepthwise(problem)) return depthwiseWeightGradient(problem, x, dy, dw);
  WeightGradient(problem).run(x, dy, dw, workspace);
}

}  // namespace voxgrad::cpu
