// Convolutions of one source side by side: the steps of a plan, decoded and handed to the kernels.
#include "aspp_gemm.h"
#include "aspp_warpgroup.h"
#include "conv_steps.h"
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

// Of a step that may read and write bf16.
std::vector<AsppBranch> branchesOfPacked(const Step& step) {
  return packedAsppBranches(widened(step, 1 | outputBit));
}

AsppCall callOf(const Step& step) {
  return asppCall(branchesOfPacked(step), isInputGradient(step), precisionOf(step));
}

// A tile of warpgroups, or the implicit matrix product, which chooses its tiles by itself.
constexpr int byThreads = -1;

// The first is what a table by shape takes.
std::vector<int> waysOf(const AsppCall& call) {
  if (!asppWarpgroupsTake(call)) return {byThreads};
  const int best = asppWarpgroupTile(call);
  const bool usual = suitsAsppWarpgroups(call);
  std::vector<int> ways = {best};
  for (const int tile : asppWarpgroupTiles(call))
    if (tile != best) ways.push_back(tile);
  ways.insert(usual ? ways.end() : ways.begin(), byThreads);
  return ways;
}

int wayOf(const Step& step, const AsppCall& call) {
  const std::vector<int> ways = waysOf(call);
  return ways[wayNumber(step, ways.size())];
}

const char* nameOf(const AsppCall& call, int way) {
  return way == byThreads ? asppName(call) : asppWarpgroupName(way, call.precision);
}

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, mostBranches + 1);
  const auto branches = branchesOfPacked(step);
  checkBranches(step, branches);
  checkStorage(step, step.inputs[0]);
  checkResult(step);
  for (size_t i = 0; i < branches.size(); i++) {
    const Conv3dProblem& p = branches[i].problem;
    checkStorage(step, step.inputs[i + 1]);
    expectCount(step, step.inputs[i + 1], p.K * p.taps() * p.C);
  }
  const AsppCall call = callOf(step);
  checkBlocks(step, asppBlocks(call));
  wayOf(step, call);
  return 0;
}

void runPacked(const Step& step) {
  AsppCall call = callOf(step);
  call.source = step.inputs[0].data;
  call.output = step.output.data;
  call.narrow = step.output.dtype == DType::bf16;
  bool whole = aligned(call.source);
  for (int i = 0; i < call.branches; i++) {
    call.branch[i].weights = step.inputs[static_cast<size_t>(i) + 1].data;
    whole = whole && aligned(call.branch[i].weights);
  }
  const int way = wayOf(step, call);
  way == byThreads || !whole ? runAspp(call, whole) : runAsppWarpgroups(call, way);
}

const char* packedAlgorithm(const Step& step) {
  const AsppCall call = callOf(step);
  return nameOf(call, wayOf(step, call));
}

std::vector<std::string> packedWays(const Step& step) {
  const AsppCall call = callOf(step);
  std::vector<std::string> names;
  for (const int way : waysOf(call)) names.push_back(nameOf(call, way));
  return names;
}

// The last inputs, x and dy, may be bf16.
std::vector<AsppBranch> branchesOfGradients(const Step& step) {
  return asppGradientBranches(widened(step, uint32_t{3} << (step.inputs.size() - 2)));
}

template <size_t MOST>
size_t prepareGradients(const Step& step) {
  expectInputs(step, 2, MOST);
  const auto branches = branchesOfGradients(step);
  checkBranches(step, branches);
  checkStorage(step, step.inputs[step.inputs.size() - 2]);
  checkStorage(step, step.inputs.back());
  const Precision precision = precisionOf(step);
  std::vector<Conv3dProblem> problems;
  for (const AsppBranch& branch : branches) problems.push_back(branch.problem);
  checkBlocks(step, weightGradientBlocks(problems, precision));
  return weightGradientWorkspace(problems, precision);
}

void runGradients(const Step& step) {
  const size_t last = step.inputs.size() - 1;
  const Tensor &x = step.inputs[last - 1], &dy = step.inputs[last];
  const auto* const slopes = static_cast<const char*>(dy.data);
  std::vector<GradientOperands> gradients;
  for (const auto& [problem, channel] : branchesOfGradients(step)) {
    float* const dw = gradients.empty() ? step.output.f32() : step.inputs[gradients.size() - 1].f32();
    const size_t skipped = static_cast<size_t>(channel) * bytesOf(dy.dtype);
    gradients.push_back({problem, precisionOf(step), x.data, slopes + skipped, dw, step.workspace});
  }
  runWeightGradients(gradients);
}

const char* gradientAlgorithm(const Step& step) {
  return weightGradientName(branchesOfGradients(step)[0].problem, precisionOf(step));
}

// All gradients but the first branch's.
size_t otherGradients(const Step& step) { return step.inputs.size() - 2; }

}  // namespace

const KernelTable asppKernels = {
    named({"asppPacked", preparePacked, runPacked}, packedAlgorithm, packedWays),
    {"asppWeightGradient", prepareGradients<2>, runGradients, gradientAlgorithm},
    {"asppWeightGradients", prepareGradients<mostBranches + 1>, runGradients, gradientAlgorithm, nullptr,
     otherGradients},
};

}  // namespace voxgrad::cuda
