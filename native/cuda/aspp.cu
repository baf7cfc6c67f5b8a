// Convolutions of one source side by side: the steps of a plan, decoded and handed to the kernels.
#include "aspp_gemm.h"
#include "conv_weight_gradient.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// Kernels count positions along an axis, taps times channels, and blocks in 32 bits.
void checkBranches(const Step& step, const std::vector<AsppBranch>& branches) {
  constexpr int64_t most = (int64_t{1} << 31) - 1, room = most / 2;
  for (const auto& [p, channel] : branches) {
    const int64_t extents[3] = {p.D, p.H, p.W};
    for (int axis = 0; axis < 3; axis++)
      if (extents[axis] + 2 * p.pad[axis] > most)
        refuse(step, "positions along axis " + std::to_string(axis) + " exceed 2^31");
    if (p.C > room / p.taps() || p.K > room / p.taps()) refuse(step, "taps times channels exceed 2^30");
  }
}

void checkBlocks(const Step& step, int64_t blocks) {
  if (blocks >= int64_t{1} << 31) refuse(step, "it takes more than 2^31 blocks of threads");
}

AsppCall callOf(const Step& step) { return asppCall(packedAsppBranches(step), isInputGradient(step)); }

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, mostBranches + 1);
  const auto branches = packedAsppBranches(step);
  checkBranches(step, branches);
  for (size_t i = 0; i < branches.size(); i++) {
    const Conv3dProblem& p = branches[i].problem;
    expectDType(step, step.inputs[i + 1], DType::f32);
    expectCount(step, step.inputs[i + 1], p.K * p.taps() * p.C);
  }
  checkBlocks(step, asppBlocks(asppCall(branches, isInputGradient(step))));
  return 0;
}

void runPacked(const Step& step) {
  AsppCall call = callOf(step);
  call.source = step.inputs[0].f32();
  call.output = step.output.f32();
  for (int i = 0; i < call.branches; i++)
    call.branch[i].weights = step.inputs[static_cast<size_t>(i) + 1].f32();
  runAspp(call);
}

const char* packedAlgorithm(const Step& step) { return asppName(callOf(step)); }

size_t gradientBytes(const Step& step) {
  const auto branches = asppGradientBranches(step);
  checkBranches(step, branches);
  std::vector<Conv3dProblem> problems;
  for (const AsppBranch& branch : branches) problems.push_back(branch.problem);
  checkBlocks(step, weightGradientBlocks(problems));
  return weightGradientWorkspace(problems);
}

void runGradients(const Step& step) {
  const size_t last = step.inputs.size() - 1;
  const float *const x = step.inputs[last - 1].f32(), *const dy = step.inputs[last].f32();
  std::vector<WeightGradient> gradients;
  for (const auto& [problem, channel] : asppGradientBranches(step)) {
    float* const dw = gradients.empty() ? step.output.f32() : step.inputs[gradients.size() - 1].f32();
    gradients.push_back({problem, x, dy + channel, dw});
  }
  runWeightGradients(gradients, step.workspace);
}

Kernel gradients(const char* name) {
  Kernel entry = kernel(name, runGradients, gradientBytes);
  entry.algorithm = [](const Step& step) {
    return weightGradientName(asppGradientBranches(step)[0].problem);
  };
  // All gradients but the first branch's.
  entry.updates = [](const Step& step) { return step.inputs.size() - 2; };
  return entry;
}

}  // namespace

const KernelTable asppKernels = {
    {"asppPacked", preparePacked, runPacked, packedAlgorithm},
    gradients("asppWeightGradient"),
    gradients("asppWeightGradients"),
};

}  // namespace voxgrad::cuda
