// The convolution steps of a plan: decoded, checked, and handed to the kernels.
#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "kernels.h"

namespace voxgrad::cpu {

// `x`, `w` and `y` are the tensors in those places of the convolution, whichever of them is the output.
static Conv3dProblem problemOf(const Step& step, const Tensor& x, const Tensor& w, const Tensor& y) {
  for (const Tensor* tensor : {&x, &w, &y}) {
    expectDType(step, *tensor, DType::f32);
    expectRank(step, *tensor, 5);
  }
  Conv3dProblem problem;
  problem.N = x.shape[0];
  problem.D = x.shape[1];
  problem.H = x.shape[2];
  problem.W = x.shape[3];
  problem.C = x.shape[4];
  problem.K = w.shape[0];
  problem.R = w.shape[1];
  problem.S = w.shape[2];
  problem.T = w.shape[3];
  problem.Z = y.shape[1];
  problem.P = y.shape[2];
  problem.Q = y.shape[3];
  problem.groups = step.attributes.integer("groups");
  const auto stride = step.attributes.integers("stride", 3);
  const auto padding = step.attributes.integers("padding", 3);
  const auto dilation = step.attributes.integers("dilation", 3);
  for (int axis = 0; axis < 3; axis++) {
    problem.stride[axis] = stride[axis];
    problem.pad[axis] = padding[axis];
    problem.dilation[axis] = dilation[axis];
  }
  std::string why;
  if (!problem.validate(&why)) refuse(step, why);
  if (y.shape[0] != problem.N || y.shape[4] != problem.K || w.shape[4] != problem.C / problem.groups)
    refuse(step, "batch or channels do not match");
  return problem;
}

static const float* biasOf(const Step& step) {
  return step.inputs.size() > 2 ? step.inputs[2].f32() : nullptr;
}

static void checkBias(const Step& step) {
  if (step.inputs.size() < 3) return;
  expectDType(step, step.inputs[2], DType::f32);
  expectCount(step, step.inputs[2], step.output.channels());
}

static Conv3dProblem forwardProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.inputs[1], step.output);
}

static Conv3dProblem inputGradientProblem(const Step& step) {
  return problemOf(step, step.output, step.inputs[1], step.inputs[0]);
}

static Conv3dProblem weightGradientProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.output, step.inputs[1]);
}

static size_t prepareForward(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  return conv3dForwardWorkspace(forwardProblem(step));
}

static void runForward(const Step& step) {
  conv3dForward(forwardProblem(step), step.inputs[0].f32(), step.inputs[1].f32(), biasOf(step),
                step.output.f32(), step.workspace);
}

static size_t prepareInputGradient(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  return conv3dInputGradientWorkspace(inputGradientProblem(step));
}

static void runInputGradient(const Step& step) {
  conv3dInputGradient(inputGradientProblem(step), step.inputs[0].f32(), step.inputs[1].f32(), biasOf(step),
                      step.output.f32(), step.workspace);
}

static size_t prepareWeightGradient(const Step& step) {
  expectInputs(step, 2, 2);
  return conv3dWeightGradientWorkspace(weightGradientProblem(step));
}

static void runWeightGradient(const Step& step) {
  conv3dWeightGradient(weightGradientProblem(step), step.inputs[0].f32(), step.inputs[1].f32(),
                       step.output.f32(), step.workspace);
}

template <Conv3dProblem (*problemOfStep)(const Step&), ConvPass pass>
static const char* algorithmOf(const Step& step) {
  return algorithmName(problemOfStep(step), pass);
}

const KernelTable convKernels = {
    {"conv3d", prepareForward, runForward, algorithmOf<forwardProblem, ConvPass::forward>},
    {"conv3dInputGradient", prepareInputGradient, runInputGradient,
     algorithmOf<inputGradientProblem, ConvPass::inputGradient>},
    {"conv3dWeightGradient", prepareWeightGradient, runWeightGradient,
     algorithmOf<weightGradientProblem, ConvPass::weightGradient>},
};

}  // namespace voxgrad::cpu
