#include "conv3d_dense_weight_gradient.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {
namespace {

// A column of this many voxels stays in the first-level cache while it meets every channel of dy.
constexpr int64_t kChunk = 128;
// The same where its voxels are read in place, and compete for the same lines.
constexpr int64_t kChunkInRows = 64;
// Voxels: as many as pass while a line of dy comes from the third-level cache.
constexpr int64_t kVoxelsAhead = 24;
constexpr int64_t kLineFloats = 16;

}  // namespace

struct DenseWeightGradient::Column {
  int64_t offset;  // in x, from the first run of a voxel
  int64_t place;   // in the sums of a filter
  int64_t vectors, floats;
};

DenseWeightGradient::DenseWeightGradient(const Conv3dProblem& problem)
    : problem_(joinVoxels(problem)),
      kernels_(denseSumKernels()),
      run_(problem.T * problem.C),
      runs_(problem.R * problem.S) {
  runVectors_ = divideUp(run_, kernels_.lanes);
  columns_ = divideUp(runVectors_, kMaxProductVectors);
  voxels_ = problem.N * problem.Z * problem.P * problem.Q;
  constexpr int64_t kMostSlabs = 64, kLeastVoxels = 1024, kTasks = 32;
  slabs_ = std::clamp<int64_t>(voxels_ / kLeastVoxels, 1, kMostSlabs);
  columnGroups_ = std::min(runs_ * columns_, divideUp(kTasks, slabs_));
  // Smaller ranges would read x too often.
  constexpr int64_t kRangeChannels = 64;
  ranges_ = std::clamp<int64_t>(kTasks / (slabs_ * columnGroups_), 1, divideUp(problem.K, kRangeChannels));
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
  SourceNorm norm;
  if (x.norm) norm = spreadNorm(*x.norm, problem_.C, run_, runFloats(), coefficients);
  const ConvolutionSource source{x.data, x.norm ? &norm : nullptr};
  float* const sums = inPlace() ? dw : cursor.floats(slabs_ * problem_.K * filterSums());
  parallelFor(slabs_ * columnGroups_ * ranges_, [&](int64_t task) { sumTask(source, dy, task, sums); });
  if (inPlace()) return;
  parallelFor(problem_.K, [&](int64_t k) { reduceFilter(k, sums, dw); });
}

DenseWeightGradient::Column DenseWeightGradient::column(int64_t index) const {
  const Conv3dProblem& p = problem_;
  const int64_t run = index / columns_, part = index % columns_;
  const int64_t first = runVectors_ * part / columns_, end = runVectors_ * (part + 1) / columns_;
  const int64_t at = first * kernels_.lanes;
  return {(run / p.S * p.H + run % p.S) * p.W * p.C + at, run * runVectors_ * kernels_.lanes + at,
          end - first, std::min(run_, end * kernels_.lanes) - at};
}

const float* DenseWeightGradient::placeOf(const float* x, int64_t voxel) const {
  const Conv3dProblem& p = problem_;
  const int64_t row = voxel / p.Q, n = row / (p.Z * p.P), z = row / p.P % p.Z, y = row % p.P;
  return x + (((n * p.D + z * p.stride[0]) * p.H + y * p.stride[1]) * p.W + voxel % p.Q * p.stride[2]) * p.C;
}

void DenseWeightGradient::gatherColumn(const ConvolutionSource& x, const Column& column, int64_t first,
                                       int64_t voxels, float* to) const {
  const Conv3dProblem& p = problem_;
  for (int64_t done = 0; done < voxels;) {
    const int64_t count = std::min(voxels - done, p.Q - (first + done) % p.Q);
    float* const place = to + done * column.vectors * kernels_.lanes;
    const float* const from = placeOf(x.data, first + done) + column.offset;
    const int64_t stride = p.stride[2] * p.C;
    if (x.norm) {
      const int64_t at = column.place % runFloats();
      const SourceNorm norm{x.norm->mean + at, x.norm->scale + at, x.norm->shift + at};
      denseKernels().normalizeRuns(place, column.vectors * kernels_.lanes, from, stride, count, column.floats,
                                   norm);
    } else {
      kernels_.gatherRuns[column.vectors - 1](place, from, stride, count, column.floats);
    }
    done += count;
  }
}

void DenseWeightGradient::sumTask(const ConvolutionSource& x, const float* dy, int64_t task,
                                  float* sums) const {
  const Conv3dProblem& p = problem_;
  const int64_t range = task % ranges_, group = task / ranges_ % columnGroups_,
                slab = task / ranges_ / columnGroups_;
  const int64_t begin = voxels_ * slab / slabs_, end = voxels_ * (slab + 1) / slabs_;
  const int64_t firstChannel = p.K * range / ranges_, endChannel = p.K * (range + 1) / ranges_;
  const int64_t columns = runs_ * columns_;
  const int64_t firstColumn = columns * group / columnGroups_,
                endColumn = columns * (group + 1) / columnGroups_;
  float* const gathered = threadScratch<Line>(static_cast<size_t>(kChunk * kMaxProductVectors))->floats;
  const bool inRows = !x.norm && readsRows();
  DenseProduct product;
  product.factorStride = p.yVoxel();
  product.sumStride = filterSums();
  const int64_t voxelPitch = p.stride[2] * p.C;
  product.runLine = product.nextLine = p.stride[1] * p.W * p.C;
  for (int64_t first = begin, count; first < end; first += count) {
    count = std::min(inRows ? kChunkInRows : kChunk, end - first);
    product.fresh = first == begin;
    product.lines = 1;
    if (inRows) {
      // Some whole rows of a plane, or a part of one.
      const int64_t inRow = first % p.Q, row = first / p.Q % p.P;
      if (inRow == 0 && count >= p.Q) product.lines = std::min(count / p.Q, p.P - row);
      count = product.lines * std::min(count, p.Q - inRow);
    }
    product.voxels = count / product.lines;
    const float* const own = placeOf(x.data, first);
    const float* const following = placeOf(x.data, std::min(end - 1, first + count));
    for (int64_t c = firstColumn; c < endColumn; ++c) {
      const Column part = column(c);
      if (inRows) {
        product.runs = own + part.offset;
        product.runStride = voxelPitch;
      } else {
        gatherColumn(x, part, first, count, gathered);
        product.runs = gathered;
        product.runStride = part.vectors * kernels_.lanes;
      }
      // What is read next is fetched meanwhile: where it is all there is of a voxel, an equal share by each
      // block of channels, else a line of each voxel by each of the first.
      const bool lastColumn = c + 1 == endColumn;
      const int64_t blocks =
          divideUp(endChannel - firstChannel, kernels_.maxProductChannels[part.vectors - 1]);
      const Column nextPart = column(lastColumn ? firstColumn : c + 1);
      const bool shares = nextPart.floats == voxelPitch;
      product.next = (lastColumn ? following : own) + nextPart.offset;
      product.nextStride = shares ? divideUp(voxelPitch, blocks) : voxelPitch;
      product.factors = dy + first * p.yVoxel() + firstChannel;
      product.sums = sums + (slab * p.K + firstChannel) * filterSums() + part.place;
      for (int64_t left = endChannel - firstChannel, b = blocks; b > 0; --b) {
        const int64_t channels = divideUp(left, b), channel = endChannel - left;
        // Lines of dy that begin here are fetched ahead of the first column. Later ones find them in the
        // caches, where fetching again would only displace others.
        const int64_t line = divideUp(channel, kLineFloats) * kLineFloats;
        const bool begins = c == firstColumn && line < channel + channels;
        product.factorsAhead = begins ? kVoxelsAhead * p.yVoxel() + line - channel : 0;
        kernels_.product[part.vectors - 1][channels - 1](product);
        if (shares) {
          product.next += product.voxels * voxelPitch / blocks;
        } else if ((blocks - b + 1) * kLineFloats < nextPart.floats) {
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
  const int64_t padded = runVectors_ * kernels_.lanes;
  for (int64_t run = 0; run < runs_; ++run) {
    const float* const from = sums + k * filterSums() + run * padded;
    float* const to = dw + (k * runs_ + run) * run_;
    std::copy_n(from, run_, to);
    for (int64_t slab = 1; slab < slabs_; ++slab) {
      const float* const more = from + slab * problem_.K * filterSums();
      for (int64_t j = 0; j < run_; ++j) to[j] += more[j];
    }
  }
}

}  // namespace voxgrad::cpu
