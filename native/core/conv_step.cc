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

// Of `count` branches, whose joined results are `y`.
static AsppBranch branchOf(const Step& step, const Tensor& x, const Tensor& y, int64_t index, int64_t count,
                           const int64_t (&kernel)[3]) {
  constexpr int64_t kMost = int64_t{1} << 15;
  const auto dilations = step.attributes.integers("dilations", static_cast<size_t>(3 * count));
  Conv3dProblem problem;
  setActivations(step, x, y, &problem);
  if (problem.Z != problem.D || problem.P != problem.H || problem.Q != problem.W || problem.K % count != 0)
    refuse(step, "the branches do not fit their result");
  problem.yPitch = problem.K;
  problem.K /= count;
  problem.R = kernel[0];
  problem.S = kernel[1];
  problem.T = kernel[2];
  for (int axis = 0; axis < 3; ++axis) {
    problem.dilation[axis] = dilations[static_cast<size_t>(3 * index + axis)];
    if (kernel[axis] < 1 || kernel[axis] > kMost || kernel[axis] % 2 == 0 || problem.dilation[axis] > kMost)
      refuse(step, "a kernel or dilation is not valid");
    problem.pad[axis] = problem.dilation[axis] * (kernel[axis] / 2);
  }
  std::string why;
  if (!problem.validate(&why)) refuse(step, why);
  return {problem, index * problem.K};
}

static int64_t countOfBranches(const Step& step, size_t count) {
  constexpr size_t kMost = 16;
  if (count < 1 || count > kMost) refuse(step, "there must be 1 to 16 branches");
  return static_cast<int64_t>(count);
}

std::vector<AsppBranch> packedAsppBranches(const Step& step) {
  const int64_t count = countOfBranches(step, step.inputs.size() - 1);
  const auto kernels = step.attributes.integers("kernels", static_cast<size_t>(3 * count));
  const bool gradient = isInputGradient(step);
  std::vector<AsppBranch> branches;
  for (int64_t i = 0; i < count; ++i) {
    const auto* const kernel = &kernels[static_cast<size_t>(3 * i)];
    branches.push_back(branchOf(step, gradient ? step.output : step.inputs[0],
                                gradient ? step.inputs[0] : step.output, i, count,
                                {kernel[0], kernel[1], kernel[2]}));
  }
  return branches;
}

std::vector<AsppBranch> asppGradientBranches(const Step& step) {
  const size_t made = step.inputs.size() - 1;
  const Tensor &x = step.inputs[made - 1], &y = step.inputs[made];
  const int64_t count = countOfBranches(step, step.attributes.list("dilations").size() / 3);
  const int64_t first = step.attributes.integer("branch");
  if (first < 0 || first + static_cast<int64_t>(made) > count) refuse(step, "there is no such branch");
  std::vector<AsppBranch> branches;
  for (size_t i = 0; i < made; ++i) {
    const Tensor& w = i == 0 ? step.output : step.inputs[i - 1];
    expectDType(step, w, DType::f32);
    expectRank(step, w, 5);
    branches.push_back(
        branchOf(step, x, y, first + static_cast<int64_t>(i), count, {w.shape[1], w.shape[2], w.shape[3]}));
    const Conv3dProblem& problem = branches.back().problem;
    if (w.shape[0] != problem.K || w.shape[4] != problem.C) refuse(step, "channels do not match");
  }
  return branches;
}

}  // namespace voxgrad
