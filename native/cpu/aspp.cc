// Convolutions of one source side by side, each by the algorithm that suits it, with results next to each
// other in one tensor; their input gradients, added up in one; and their weight gradients. A branch whose
// algorithm can neither read nor write some channels of a wider tensor works on copies of its own.
#include <mutex>
#include <set>
#include <string>

#include "../core/conv_step.h"
#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv3d_geometry.h"
#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {
namespace {

int64_t voxelsOf(const Conv3dProblem& p) { return p.N * p.D * p.H * p.W; }

// Sets, or adds to, `channels` floats of each voxel.
void place(float* to, int64_t toPitch, const float* from, int64_t fromPitch, int64_t channels, int64_t voxels,
           bool add) {
  parallelRange(
      voxels,
      [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          float* const out = to + i * toPitch;
          const float* const in = from + i * fromPitch;
          for (int64_t c = 0; c < channels; ++c) out[c] = add ? out[c] + in[c] : in[c];
        }
      },
      divideUp(chunkElements, channels));
}

// `problem` without what only some algorithms know.
Conv3dProblem apart(Conv3dProblem problem) {
  problem.xPitch = problem.yPitch = 0;
  problem.adds = false;
  return problem;
}

class Branch {
 public:
  Branch(const AsppBranch& branch, bool inputGradient, bool packedOnce, bool adds)
      : problem_(branch.problem), channel_(branch.channel), inputGradient_(inputGradient) {
    problem_.adds = adds;
    convolution_ = makeConvolution(problem_, inputGradient, packedOnce);
    copies_ = !convolution_->places();
    if (copies_) convolution_ = makeConvolution(apart(problem_), inputGradient, packedOnce);
  }

  int64_t weightFloats() const { return cpu::weightFloats(*convolution_, problem_); }

  size_t workspace() const { return copies().used() + convolution_->workspace(); }

  void run(const float* source, const float* packed, float* output, void* workspace) const {
    const Conv3dProblem& p = problem_;
    const int64_t voxels = voxelsOf(p);
    float* const joined = inputGradient_ ? nullptr : output + channel_;
    if (inputGradient_) source += channel_;
    if (!copies_) return convolution_->run(source, packed, nullptr, joined ? joined : output, workspace);
    WorkspaceCursor cursor(workspace);
    float* const part = cursor.floats(voxels * p.K);
    float* const sum = cursor.floats(p.adds ? voxels * p.C : 0);
    void* const rest = static_cast<char*>(workspace) + cursor.used();
    if (!inputGradient_) {
      convolution_->run(source, packed, nullptr, part, rest);
      place(joined, p.yVoxel(), part, p.K, p.K, voxels, false);
      return;
    }
    place(part, p.K, source, p.yVoxel(), p.K, voxels, false);
    convolution_->run(part, packed, nullptr, p.adds ? sum : output, rest);
    if (p.adds) place(output, p.C, sum, p.C, p.C, voxels, true);
  }

 private:
  WorkspaceCursor copies() const {
    WorkspaceCursor cursor(nullptr);
    if (copies_) {
      cursor.floats(voxelsOf(problem_) * problem_.K);
      cursor.floats(problem_.adds ? voxelsOf(problem_) * problem_.C : 0);
    }
    return cursor;
  }

  Conv3dProblem problem_;
  const int64_t channel_;
  const bool inputGradient_;
  std::unique_ptr<Convolution> convolution_;
  bool copies_;
};

std::vector<Branch> branchesOf(const Step& step) {
  const bool gradient = isInputGradient(step), once = isPackedOnce(step);
  std::vector<Branch> branches;
  for (const AsppBranch& branch : packedAsppBranches(step))
    branches.emplace_back(branch, gradient, once, gradient && !branches.empty());
  return branches;
}

size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 17);
  const auto branches = branchesOf(step);
  size_t bytes = 0;
  for (size_t i = 0; i < branches.size(); ++i) {
    expectDType(step, step.inputs[i + 1], DType::f32);
    expectCount(step, step.inputs[i + 1], branches[i].weightFloats());
    bytes = std::max(bytes, branches[i].workspace());
  }
  return bytes;
}

// One after another, each spread over all threads: the order of the sums of an input gradient.
void runPacked(const Step& step) {
  const auto branches = branchesOf(step);
  for (size_t i = 0; i < branches.size(); ++i)
    branches[i].run(step.inputs[0].f32(), step.inputs[i + 1].f32(), step.output.f32(), step.workspace);
}

class BranchGradient {
 public:
  explicit BranchGradient(const AsppBranch& branch)
      : problem_(branch.problem), channel_(branch.channel), gradient_(makeWeightGradient(problem_)) {
    copies_ = !gradient_->places();
    if (copies_) gradient_ = makeWeightGradient(apart(problem_));
  }

  size_t workspace() const { return copy().used() + gradient_->workspace(); }

  void run(const float* x, const float* dy, float* dw, void* workspace) const {
    const int64_t voxels = voxelsOf(problem_), channels = problem_.K;
    if (!copies_) return gradient_->run(x, dy + channel_, dw, workspace);
    float* const part = static_cast<float*>(workspace);
    place(part, channels, dy + channel_, problem_.yVoxel(), channels, voxels, false);
    gradient_->run(x, part, dw, static_cast<char*>(workspace) + copy().used());
  }

 private:
  WorkspaceCursor copy() const {
    WorkspaceCursor cursor(nullptr);
    if (copies_) cursor.floats(voxelsOf(problem_) * problem_.K);
    return cursor;
  }

  const Conv3dProblem problem_;
  const int64_t channel_;
  std::unique_ptr<ConvolutionWeightGradient> gradient_;
  bool copies_;
};

template <size_t most>
size_t prepareGradients(const Step& step) {
  expectInputs(step, 2, most);
  size_t bytes = 0;
  for (const AsppBranch& branch : asppGradientBranches(step))
    bytes = std::max(bytes, BranchGradient(branch).workspace());
  return bytes;
}

void runGradients(const Step& step) {
  const size_t last = step.inputs.size() - 1;
  float* dw = step.output.f32();
  const auto branches = asppGradientBranches(step);
  for (size_t i = 0; i < branches.size(); ++i) {
    if (i > 0) dw = step.inputs[i - 1].f32();
    BranchGradient(branches[i]).run(step.inputs[last - 1].f32(), step.inputs[last].f32(), dw, step.workspace);
  }
}

// All gradients but the first branch's.
size_t otherGradients(const Step& step) { return step.inputs.size() - 2; }

// "direct, winograd F(2x2,3x3)": a name that lasts.
const char* joinedName(const std::vector<AsppBranch>& branches, ConvPass pass, bool packedOnce) {
  std::string text;
  for (const AsppBranch& branch : branches)
    text += (text.empty() ? "" : ", ") + std::string(algorithmName(branch.problem, pass, packedOnce));
  static std::mutex mutex;
  static auto* const names = new std::set<std::string>;
  const std::lock_guard<std::mutex> lock(mutex);
  return names->insert(text).first->c_str();
}

const char* packedAlgorithm(const Step& step) {
  const ConvPass pass = isInputGradient(step) ? ConvPass::inputGradient : ConvPass::forward;
  return joinedName(packedAsppBranches(step), pass, isPackedOnce(step));
}

const char* gradientAlgorithm(const Step& step) {
  return joinedName(asppGradientBranches(step), ConvPass::weightGradient, false);
}

}  // namespace

const KernelTable asppKernels = {
    {"asppPacked", preparePacked, runPacked, packedAlgorithm},
    {"asppWeightGradient", prepareGradients<2>, runGradients, gradientAlgorithm},
    {"asppWeightGradients", prepareGradients<17>, runGradients, gradientAlgorithm, nullptr, otherGradients},
};

}  // namespace voxgrad::cpu
