#include "conv3d_dense_weight_gradient.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {
namespace {

// The runs of this many voxels stay in the first-level cache while they meet every channel of dy.
constexpr int64_t kRowVoxels = 64;
// Voxels: as many as pass while a line of dy comes from the third-level cache.
constexpr int64_t kVoxelsAhead = 24;

}  // namespace

DenseWeightGradient::DenseWeightGradient(const Conv3dProblem& problem)
    : problem_(joinVoxels(problem)),
      lanes_(weightGradientKernels().lanes),
      run_(problem.T * problem.C),
      runs_(problem.R * problem.S),
      runVectors_(divideUp(run_, lanes_)),
      voxels_(problem.N * problem.Z * problem.P * problem.Q) {
  // Few sums, which stay in the caches, can be added up more often.
  constexpr int64_t kMostSlabs = 64, kFewSums = 16384;
  const int64_t leastVoxels = problem.K * filterSums() <= kFewSums ? 256 : 2048;
  slabs_ = std::clamp<int64_t>(voxels_ / leastVoxels, 1, kMostSlabs);
}

size_t DenseWeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(3 * runFloats());
  if (!inPlace()) cursor.floats(slabs_ * problem_.K * filterSums());
  return cursor.used();
}

void DenseWeightGradient::run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const coefficients = cursor.floats(3 * runFloats());
  float* const sums = inPlace() ? dw : cursor.floats(slabs_ * problem_.K * filterSums());
  if (readsRows() && !x.norm) {
    parallelFor(tasks(runs_), [&](int64_t task) { sumRows(x.data, dy, task, sums); });
  } else {
    SourceNorm norm;
    if (x.norm) norm = spreadNorm(*x.norm, problem_.C, run_, runFloats(), coefficients);
    const ConvolutionSource source{x.data, x.norm ? &norm : nullptr};
    parallelFor(tasks(columns()), [&](int64_t task) { sumColumns(source, dy, task, sums); });
  }
  if (inPlace()) return;
  parallelFor(problem_.K, [&](int64_t k) { reduceFilter(k, sums, dw); });
}

// Few slabs are divided by columns, and these by ranges of channels.
struct DenseWeightGradient::Division {
  int64_t groups, ranges;
};

DenseWeightGradient::Division DenseWeightGradient::divide(int64_t columns) const {
  // Smaller ranges would read x too often, and smaller tasks are not worth handing out.
  constexpr int64_t kMostTasks = 16, kTaskProducts = 1 << 19, kRangeChannels = 64;
  const int64_t products = voxels_ * problem_.K * filterSums();
  const int64_t wanted = std::clamp<int64_t>(products / kTaskProducts, 1, kMostTasks);
  const int64_t groups = std::min(columns, divideUp(wanted, slabs_));
  return {groups, std::clamp<int64_t>(wanted / (slabs_ * groups), 1, divideUp(problem_.K, kRangeChannels))};
}

int64_t DenseWeightGradient::tasks(int64_t columns) const {
  const Division parts = divide(columns);
  return slabs_ * parts.groups * parts.ranges;
}

DenseWeightGradient::Part DenseWeightGradient::partOf(int64_t task, int64_t columns) const {
  const Division parts = divide(columns);
  const int64_t range = task % parts.ranges, group = task / parts.ranges % parts.groups;
  Part part;
  part.slab = task / parts.ranges / parts.groups;
  part.firstVoxel = voxels_ * part.slab / slabs_;
  part.endVoxel = voxels_ * (part.slab + 1) / slabs_;
  part.firstColumn = columns * group / parts.groups;
  part.endColumn = columns * (group + 1) / parts.groups;
  part.firstChannel = problem_.K * range / parts.ranges;
  part.endChannel = problem_.K * (range + 1) / parts.ranges;
  return part;
}

const float* DenseWeightGradient::placeOf(const float* x, int64_t voxel) const {
  const Conv3dProblem& p = problem_;
  const int64_t row = voxel / p.Q, n = row / (p.Z * p.P), z = row / p.P % p.Z, y = row % p.P;
  return x + (((n * p.D + z * p.stride[0]) * p.H + y * p.stride[1]) * p.W + voxel % p.Q * p.stride[2]) * p.C;
}

int64_t DenseWeightGradient::runOffset(int64_t run) const {
  return (run / problem_.S * problem_.H + run % problem_.S) * problem_.W * problem_.C;
}

// At most so many, from voxel `first` on.
DenseWeightGradient::Patch DenseWeightGradient::patchAt(int64_t first, int64_t most) const {
  const int64_t inRow = first % problem_.Q, row = first / problem_.Q % problem_.P;
  if (inRow > 0 || most < problem_.Q) return {1, std::min(most, problem_.Q - inRow)};
  return {std::min(most / problem_.Q, problem_.P - row), problem_.Q};
}

// Lines of dy that begin among these channels are fetched ahead of the first column. Later ones find them in
// the caches, where fetching again would only displace others.
int64_t DenseWeightGradient::factorsAhead(int64_t channel, int64_t channels) const {
  const int64_t line = divideUp(channel, kLineFloats) * kLineFloats;
  return line < channel + channels ? kVoxelsAhead * problem_.yVoxel() + line - channel : 0;
}

// Its columns are the runs.
void DenseWeightGradient::sumRows(const float* x, const float* dy, int64_t task, float* sums) const {
  const Conv3dProblem& p = problem_;
  const DenseSumKernels& kernels = denseSumKernels();
  const Part part = partOf(task, runs_);
  const int64_t blocks =
      divideUp(part.endChannel - part.firstChannel, kernels.maxProductChannels[runVectors_ - 1]);
  DenseProduct product;
  product.factorStride = p.yVoxel();
  product.sumStride = filterSums();
  product.runStride = voxelPitch();
  product.runLine = product.nextLine = rowPitch();
  for (int64_t first = part.firstVoxel, count; first < part.endVoxel; first += count) {
    const Patch patch = patchAt(first, std::min(kRowVoxels, part.endVoxel - first));
    count = patch.lines * patch.voxels;
    product.lines = patch.lines;
    product.voxels = patch.voxels;
    product.fresh = first == part.firstVoxel;
    const float* const own = placeOf(x, first);
    const float* const following = placeOf(x, std::min(part.endVoxel - 1, first + count));
    for (int64_t run = part.firstColumn; run < part.endColumn; ++run) {
      product.runs = own + runOffset(run);
      // What is read next is fetched meanwhile: where it is all there is of a voxel, an equal share by each
      // block of channels, else a line of each voxel by each of the first.
      const bool lastRun = run + 1 == part.endColumn;
      const bool shares = run_ == voxelPitch();
      product.next = lastRun ? following + runOffset(part.firstColumn) : own + runOffset(run + 1);
      product.nextStride = shares ? divideUp(voxelPitch(), blocks) : voxelPitch();
      product.factors = dy + first * p.yVoxel() + part.firstChannel;
      product.sums = sums + (part.slab * p.K + part.firstChannel) * filterSums() + run * runFloats();
      for (int64_t left = part.endChannel - part.firstChannel, b = blocks; b > 0; --b) {
        const int64_t channels = divideUp(left, b), channel = part.endChannel - left;
        product.factorsAhead = run == part.firstColumn ? factorsAhead(channel, channels) : 0;
        kernels.product[runVectors_ - 1][channels - 1](product);
        if (shares) {
          product.next += product.voxels * voxelPitch() / blocks;
        } else if ((blocks - b + 1) * kLineFloats < run_) {
          product.next += kLineFloats;
        } else {
          product.nextStride = 0;
        }
        product.factors += channels;
        product.sums += channels * filterSums();
        left -= channels;
      }
    }
  }
}

void DenseWeightGradient::reduceFilter(int64_t k, const float* sums, float* dw) const {
  for (int64_t run = 0; run < runs_; ++run) {
    const float* const from = sums + k * filterSums() + run * runFloats();
    float* const to = dw + (k * runs_ + run) * run_;
    std::copy_n(from, run_, to);
    for (int64_t slab = 1; slab < slabs_; ++slab) {
      const float* const more = from + slab * problem_.K * filterSums();
      for (int64_t j = 0; j < run_; ++j) to[j] += more[j];
    }
  }
}

}  // namespace voxgrad::cpu
