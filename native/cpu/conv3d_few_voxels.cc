#include "conv3d_few_voxels.h"

#include <algorithm>

#include "../core/thread_pool.h"
#include "conv3d_geometry.h"
#include "isa.h"

namespace voxgrad::cpu {
namespace {

// Filters of a part: of a forward pass whole lines of y, of an input gradient sums of their own.
int64_t partsOf(const Conv3dProblem& p, bool inputGradient) {
  constexpr int64_t kPartFilters = 16, kMostSums = 8;
  const int64_t most = divideUp(p.K, kPartFilters);
  return inputGradient ? std::min(kMostSums, most) : most;
}

// Adds what filters [first, last) make. Those of a block meet all taps before the next do, which is the order
// of the weights in memory.
void addFilters(const Conv3dProblem& p, const VoxelPairs& pairs, const float* source, const float* w,
                int64_t first, int64_t last, bool inputGradient, float* output) {
  const auto kernel = inputGradient ? fewVoxelsKernels().inputGradient : fewVoxelsKernels().forward;
  const int64_t block = inputGradient ? kGradientFilters : kForwardFilters;
  FilterTap tap;
  tap.nextFilter = p.taps() * p.C;
  tap.channels = p.C;
  for (int64_t k = first; k < last; k += block) {
    tap.filters = std::min(block, last - k);
    tap.source = inputGradient ? source + k : source;
    tap.output = inputGradient ? output : output + k;
    pairs.forEachTap([&](int64_t index, const VoxelPair* own, int64_t count) {
      tap.pairs = own;
      tap.count = count;
      tap.weights = w + (k * p.taps() + index) * p.C;
      kernel(tap);
    });
  }
}

// Voxels that a weight meets, on average over the taps that reach any.
double voxelsPerTap(const Conv3dProblem& p) {
  double voxels = static_cast<double>(p.N);
  for (int axis = 0; axis < 3; ++axis) {
    const AxisPairs inside = axisPairs(p, axis);
    voxels *= static_cast<double>(inside.pairs) / static_cast<double>(std::max<int64_t>(1, inside.taps));
  }
  return voxels;
}

void fill(float* to, const float* bias, int64_t count) {
  if (bias)
    std::copy_n(bias, count, to);
  else
    std::fill_n(to, count, 0.0f);
}

}  // namespace

// Fewer weights stay in the caches between packing and products, and more voxels pay for packing.
bool FewVoxels::fits(const Conv3dProblem& p) {
  constexpr int64_t kMostPerTap = 40, kLeastWeights = 1 << 17;
  const bool apart = p.xPitch != 0 || p.yPitch != 0 || p.adds;
  return !apart && hasFewVoxels(p) && p.C % conv3dKernels().lanes == 0 && p.weightFloats() >= kLeastWeights &&
         voxelsPerTap(p) <= kMostPerTap;
}

FewVoxels::FewVoxels(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      xFloats_(p.N * p.D * p.H * p.W * p.C),
      parts_(partsOf(p, inputGradient)) {}

size_t FewVoxels::workspace() const {
  WorkspaceCursor cursor(nullptr);
  if (inputGradient_) cursor.floats(parts_ * xFloats_);
  return cursor.used();
}

void FewVoxels::run(const float* source, const float* w, const float* bias, float* output,
                    void* workspace) const {
  const VoxelPairs pairs(problem_, problem_.C, problem_.K, inputGradient_);
  if (inputGradient_)
    runInputGradient(pairs, source, w, bias, output, static_cast<float*>(workspace));
  else
    runForward(pairs, source, w, bias, output);
}

void FewVoxels::runForward(const VoxelPairs& pairs, const float* x, const float* w, const float* bias,
                           float* y) const {
  const Conv3dProblem& p = problem_;
  parallelFor(parts_, [&](int64_t part) {
    const int64_t first = p.K * part / parts_, last = p.K * (part + 1) / parts_;
    for (int64_t voxel = 0; voxel < p.N * p.Z * p.P * p.Q; ++voxel)
      fill(y + voxel * p.K + first, bias ? bias + first : nullptr, last - first);
    addFilters(p, pairs, x, w, first, last, false, y);
  });
}

void FewVoxels::runInputGradient(const VoxelPairs& pairs, const float* dy, const float* w, const float* bias,
                                 float* dx, float* sums) const {
  const Conv3dProblem& p = problem_;
  parallelFor(parts_, [&](int64_t part) {
    float* const own = sums + part * xFloats_;
    std::fill_n(own, xFloats_, 0.0f);
    addFilters(p, pairs, dy, w, p.K * part / parts_, p.K * (part + 1) / parts_, true, own);
  });
  constexpr int64_t kTaskVoxels = 16;
  const int64_t voxels = xFloats_ / p.C;
  parallelFor(divideUp(voxels, kTaskVoxels), [&](int64_t task) {
    for (int64_t voxel = task * kTaskVoxels; voxel < std::min(voxels, (task + 1) * kTaskVoxels); ++voxel) {
      float* const to = dx + voxel * p.C;
      fill(to, bias, p.C);
      for (int64_t part = 0; part < parts_; ++part) {
        const float* const own = sums + part * xFloats_ + voxel * p.C;
        for (int64_t c = 0; c < p.C; ++c) to[c] += own[c];
      }
    }
  });
}

}  // namespace voxgrad::cpu
