#include "conv3d_stem_forward.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {

// Windows stay in the second-level cache.
constexpr int64_t kWindowFloats = 32768, kLeastBlocks = 64;

struct Stem::Window {
  const float* data;
  StemBlock block;
  int64_t planePitch;  // floats between planes of x
};

Stem::Stem(const Conv3dProblem& problem)
    : problem_(problem),
      x_(problem),
      kernels_(denseKernels()),
      steps_(problem.T * problem.C),
      vectors_(divideUp(problem.K, kernels_.lanes)),
      groupsPerRow_(divideUp(problem.Q, kernels_.groupVoxels)),
      inLines_(x_.step(2) == 1 && problem.Q % kernels_.groupVoxels == 0),
      blocks_(problem, x_.row(), kWindowFloats, kLeastBlocks) {}

size_t Stem::packedFloats() const {
  return static_cast<size_t>(vectors_ * problem_.R * problem_.S * steps_ * kernels_.lanes);
}

void Stem::pack(const float* w, float* packed) const { packColumns(problem_, w, packed); }

size_t Stem::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(vectors_ * kernels_.lanes);
  return cursor.used();
}

void Stem::run(const float* x, const float* packed, const float* bias, float* y, void* workspace) const {
  const Conv3dProblem& p = problem_;
  float* const paddedBias = WorkspaceCursor(workspace).floats(vectors_ * kernels_.lanes);
  std::fill_n(paddedBias, vectors_ * kernels_.lanes, 0.0f);
  if (bias) std::copy_n(bias, p.K, paddedBias);
  parallelFor(blocks_.count(), [&](int64_t block) { runBlock(x, packed, paddedBias, y, block); });
}

void Stem::runBlock(const float* x, const float* packed, const float* bias, float* y, int64_t index) const {
  const StemBlock block = blocks_.at(index);
  const int64_t planes = blocks_.window(0, block.endPlane - block.plane);
  const int64_t rows = blocks_.window(1, block.endRow - block.row);
  const int64_t planePitch = rows * x_.row();
  float* const to = threadScratch<float>(static_cast<size_t>(planes * planePitch));
  for (int64_t i = 0; i < planes; ++i) {
    const int64_t plane = block.plane * x_.stride[0] + i;
    const bool inside = plane >= x_.pad[0] && plane < x_.pad[0] + x_.extent[0];
    if (inside) x_.fillRows(x, block.sample, plane, block.row * x_.stride[1], rows, to + i * planePitch);
  }
  const Window window{to, block, planePitch};
  for (int64_t plane = block.plane; plane < block.endPlane; ++plane) {
    for (int64_t row = block.row; row < block.endRow;) {
      const int64_t end = blocks_.endOfAlike(row, block.endRow);
      runRows(window, packed, bias, y, plane, row, end - row);
      row = end;
    }
  }
}

// Rows of a plane whose taps inside x are the same.
void Stem::runRows(const Window& window, const float* packed, const float* bias, float* y, int64_t plane,
                   int64_t row, int64_t rows) const {
  const Conv3dProblem& p = problem_;
  const StemTaps deep = blocks_.tapsInside(0, plane), across = blocks_.tapsInside(1, row);
  const int64_t rowPitch = x_.tapStep(1), voxelPitch = x_.step(2);
  const float* const source =
      window.data +
      ((plane - window.block.plane) * x_.stride[0] + deep.first * x_.dilation[0]) * window.planePitch +
      (row - window.block.row) * x_.step(1) + across.first * rowPitch;
  float* const output = y + (((window.block.sample * p.Z + plane) * p.P + row) * p.Q) * p.K;
  DensePlace places[kMaxDenseGroups];
  DenseTile tile = {};
  tile.places = places;
  tile.segments = deep.count() * across.count();
  DenseJump* const jumps = threadScratch<DenseJump>(static_cast<size_t>(tile.segments));
  tile.jumps = jumps;
  tile.steps = steps_;
  tile.sourceStride = voxelPitch;
  tile.outputStride = p.K;
  for (int64_t firstVector = 0; firstVector < vectors_; firstVector += kMaxDenseVectors) {
    const int64_t vectors = std::min<int64_t>(kMaxDenseVectors, vectors_ - firstVector);
    const int64_t lanes = vectors * kernels_.lanes, firstChannel = firstVector * kernels_.lanes;
    for (int64_t i = 0; i < tile.segments; ++i) {
      const bool planeEnds = (i + 1) % across.count() == 0;
      const int64_t onward = x_.dilation[0] * window.planePitch - (across.count() - 1) * rowPitch;
      jumps[i] = {(planeEnds ? onward : rowPitch) - steps_,
                  planeEnds ? (p.S - across.count()) * steps_ * lanes : 0};
    }
    const int64_t mostGroups = kernels_.maxGroups[vectors - 1];
    tile.weights =
        packed + firstChannel * p.R * p.S * steps_ + (deep.first * p.S + across.first) * steps_ * lanes;
    tile.bias = bias + firstChannel;
    tile.channels = std::min(p.K - firstChannel, lanes);
    tile.outputAt = firstChannel;
    // Tiles are as even as possible. Those of lines follow one another, as y lies in memory.
    if (inLines_) {
      const int64_t tiles = divideUp(groupsPerRow_, mostGroups);
      const int64_t least = groupsPerRow_ / tiles, larger = groupsPerRow_ % tiles;
      for (int64_t line = 0; line < rows; ++line) {
        places[0] = {source + line * x_.step(1), output + line * p.Q * p.K, 0};
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t groups = least + (t < larger);
          kernels_.line[vectors - 1][groups - 1](tile);
          places[0].source += groups * kernels_.groupVoxels;
          places[0].output += groups * kernels_.groupVoxels * p.K;
        }
      }
      continue;
    }
    // So do those of long rows; the last one overlaps its neighbour.
    if (tile.segments > 0 && p.Q >= 4 * kernels_.spanVoxels[vectors - 1]) {
      for (int64_t line = 0; line < rows; ++line) {
        DenseSpan span = {};
        span.source = source + line * x_.step(1);
        span.sourceStride = voxelPitch;
        span.jumps = jumps;
        span.lastSegment = tile.segments - 1;
        span.steps = steps_;
        span.weights = tile.weights;
        span.bias = tile.bias;
        span.output = output + line * p.Q * p.K + firstChannel;
        span.outputStride = p.K;
        span.channels = tile.channels;
        span.voxels = p.Q;
        kernels_.span[vectors - 1](span);
      }
      continue;
    }
    // Else a tile of a row is followed by those below it, which read most of what is in the first-level
    // cache by then; short rows share tiles.
    const bool down = groupsPerRow_ >= mostGroups;
    const int64_t groupsOfUnit = down ? groupsPerRow_ : groupsPerRow_ * rows,
                  tiles = divideUp(groupsOfUnit, mostGroups);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = groupsOfUnit * t / tiles, groups = groupsOfUnit * (t + 1) / tiles - first;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t line = (first + g) / groupsPerRow_, inRow = (first + g) % groupsPerRow_;
        // The last group overlaps its neighbour where groups do not divide the row.
        const int64_t voxel = std::min(inRow * kernels_.groupVoxels, p.Q - kernels_.groupVoxels);
        places[g] = {source + line * x_.step(1) + voxel * voxelPitch, output + (line * p.Q + voxel) * p.K,
                     down ? x_.step(1) : 0};
      }
      for (int64_t line = 0; line < (down ? rows : 1); ++line) {
        kernels_.tile[vectors - 1][groups - 1](tile);
        for (int64_t g = 0; g < groups; ++g) {
          places[g].source += x_.step(1);
          places[g].output += p.Q * p.K;
        }
      }
    }
  }
}

}  // namespace voxgrad::cpu
