#include "conv_step.h"

namespace voxgrad {

Precision precisionOf(const Step& step) {
  if (!step.attributes.has("precision")) return Precision::f32;
  const int64_t code = step.attributes.integer("precision");
  if (code < 0 || code >= precisions) refuse(step, "there is no precision " + std::to_string(code));
  return static_cast<Precision>(code);
}

// Decodes the attributes that all steps of a convolution have and checks the whole problem.
static Conv3dProblem finish(const Step& step, Conv3dProblem problem) {
  problem.groups = step.attributes.integer("groups");
  const auto stride = step.attributes.integers("stride", 3);
  const auto padding = step.attributes.integers("padding", 3);
  const auto dilation = step.attributes.integers("dilation", 3);
  for (int axis = 0; axis < 3; ++axis) {
    problem.stride[axis] = stride[axis];
    problem.pad[axis] = padding[axis];
    problem.dilation[axis] = dilation[axis];
  }
  std::string why;
  if (!problem.validate(&why)) refuse(step, why);
  return problem;
}

static void setActivations(const Step& step, const Tensor& x, const Tensor& y, Conv3dProblem* problem) {
  for (const Tensor* tensor : {&x, &y}) {
    expectDType(step, *tensor, DType::f32);
    expectRank(step, *tensor, 5);
  }
  problem->N = x.shape[0];
  problem->D = x.shape[1];
  problem->H = x.shape[2];
  problem->W = x.shape[3];
  problem->C = x.shape[4];
  problem->Z = y.shape[1];
  problem->P = y.shape[2];
  problem->Q = y.shape[3];
  problem->K = y.shape[4];
  if (y.shape[0] != problem->N) refuse(step, "batches do not match");
}

// `x`, `w` and `y` are the tensors in those places of the convolution, whichever of them is the output.
static Conv3dProblem problemOf(const Step& step, const Tensor& x, const Tensor& w, const Tensor& y) {
  Conv3dProblem problem;
  setActivations(step, x, y, &problem);
  expectDType(step, w, DType::f32);
  expectRank(step, w, 5);
  problem.R = w.shape[1];
  problem.S = w.shape[2];
  problem.T = w.shape[3];
  problem = finish(step, problem);
  if (w.shape[0] != problem.K || w.shape[4] != problem.C / problem.groups)
    refuse(step, "batch or channels do not match");
  return problem;
}

const float* biasOf(const Step& step) { return step.inputs.size() > 2 ? step.inputs[2].f32() : nullptr; }

void checkBias(const Step& step) {
  if (step.inputs.size() < 3) return;
  expectDType(step, step.inputs[2], DType::f32);
  expectCount(step, step.inputs[2], step.output.channels());
}

Conv3dProblem forwardProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.inputs[1], step.output);
}

Conv3dProblem inputGradientProblem(const Step& step) {
  return problemOf(step, step.output, step.inputs[1], step.inputs[0]);
}

Conv3dProblem weightGradientProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.output, step.inputs[1]);
}

bool isInputGradient(const Step& step) { return step.attributes.flag("inputGradient"); }
bool isPackedOnce(const Step& step) { return step.attributes.flag("packedOnce"); }

Conv3dProblem packedProblem(const Step& step) {
  const bool gradient = isInputGradient(step);
  Conv3dProblem problem;
  setActivations(step, gradient ? step.output : step.inputs[0], gradient ? step.inputs[0] : step.output,
                 &problem);
  const auto kernel = step.attributes.integers("kernel", 3);
  problem.R = kernel[0];
  problem.S = kernel[1];
  problem.T = kernel[2];
  return finish(step, problem);
}

Conv3dProblem packingProblem(const Step& step) {
  const Tensor& w = step.inputs[0];
  expectDType(step, w, DType::f32);
  expectRank(step, w, 5);
  const auto x = step.attributes.integers("input", 4), y = step.attributes.integers("output", 3);
  Conv3dProblem problem;
  problem.N = x[0];
  problem.D = x[1];
  problem.H = x[2];
  problem.W = x[3];
  problem.K = w.shape[0];
  problem.R = w.shape[1];
  problem.S = w.shape[2];
  problem.T = w.shape[3];
  problem.Z = y[0];
  problem.P = y[1];
  problem.Q = y[2];
  const int64_t groups = step.attributes.integer("groups");
  if (groups < 1 || __builtin_mul_overflow(w.shape[4], groups, &problem.C))
    refuse(step, "groups are not valid");
  return finish(step, problem);
}

}  // namespace voxgrad
