#include "conv3d_stem_forward.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {

struct Stem::Taps {
  int64_t first, end;

  int64_t count() const { return end - first; }
  bool operator==(const Taps& other) const { return first == other.first && end == other.end; }
};

struct Stem::Window {
  const float* data;
  int64_t sample, plane, row;  // of y: the block's first
  int64_t planePitch;          // floats between planes of x
};

Stem::Stem(const Conv3dProblem& problem)
    : problem_(problem),
      x_(problem),
      kernels_(denseKernels()),
      steps_(problem.T * problem.C),
      vectors_(divideUp(problem.K, kernels_.lanes)),
      groupsPerRow_(divideUp(problem.Q, kernels_.groupVoxels)),
      inLines_(x_.step(2) == 1 && problem.Q % kernels_.groupVoxels == 0) {
  chooseBlocks();
}

// The larger a block, the less of x is copied for two of them; a window stays in the second-level cache.
void Stem::chooseBlocks() {
  constexpr int64_t kWindowFloats = 32768, kLeastBlocks = 64;
  const Conv3dProblem& p = problem_;
  const auto copied = [this](int64_t planes, int64_t rows) {
    return windowExtent(0, planes) * windowExtent(1, rows);
  };
  for (;;) {
    const int64_t planes = std::min(p.Z, 2 * blockPlanes_), rows = std::min(p.P, 2 * blockRows_);
    const bool deeper = rows == blockRows_ ||
                        (planes > blockPlanes_ && copied(planes, blockRows_) < copied(blockPlanes_, rows));
    const int64_t nextPlanes = deeper ? planes : blockPlanes_, nextRows = deeper ? blockRows_ : rows;
    const int64_t blocks = p.N * divideUp(p.Z, nextPlanes) * divideUp(p.P, nextRows);
    const bool grows = nextPlanes > blockPlanes_ || nextRows > blockRows_;
    if (!grows || blocks < kLeastBlocks || copied(nextPlanes, nextRows) * x_.row() > kWindowFloats) break;
    blockPlanes_ = nextPlanes;
    blockRows_ = nextRows;
  }
}

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
  parallelFor(p.N * divideUp(p.Z, blockPlanes_) * divideUp(p.P, blockRows_),
              [&](int64_t block) { runBlock(x, packed, paddedBias, y, block); });
}

// Planes or rows of x that so many outputs read, those between their taps included.
int64_t Stem::windowExtent(int axis, int64_t outputs) const {
  const int64_t kernel = axis == 0 ? problem_.R : problem_.S;
  return (outputs - 1) * x_.stride[axis] + (kernel - 1) * x_.dilation[axis] + 1;
}

Stem::Taps Stem::tapsInside(int axis, int64_t output) const {
  const int64_t kernel = axis == 0 ? problem_.R : problem_.S;
  const int64_t before = x_.pad[axis] - output * x_.stride[axis], until = before + x_.extent[axis];
  const int64_t first = before > 0 ? std::min(kernel, divideUp(before, x_.dilation[axis])) : 0;
  const int64_t end = until > 0 ? std::min(kernel, divideUp(until, x_.dilation[axis])) : 0;
  return {first, std::max(first, end)};
}

void Stem::runBlock(const float* x, const float* packed, const float* bias, float* y, int64_t block) const {
  const Conv3dProblem& p = problem_;
  const int64_t across = divideUp(p.P, blockRows_), deep = divideUp(p.Z, blockPlanes_);
  Window window{nullptr, block / (across * deep), block / across % deep * blockPlanes_,
                block % across * blockRows_, 0};
  const int64_t endPlane = std::min(p.Z, window.plane + blockPlanes_);
  const int64_t endRow = std::min(p.P, window.row + blockRows_);
  const int64_t planes = windowExtent(0, endPlane - window.plane);
  const int64_t rows = windowExtent(1, endRow - window.row);
  window.planePitch = rows * x_.row();
  float* const to = threadScratch<float>(static_cast<size_t>(planes * window.planePitch));
  for (int64_t i = 0; i < planes; ++i) {
    const int64_t plane = window.plane * x_.stride[0] + i;
    const bool inside = plane >= x_.pad[0] && plane < x_.pad[0] + x_.extent[0];
    if (inside)
      x_.fillRows(x, window.sample, plane, window.row * x_.stride[1], rows, to + i * window.planePitch);
  }
  window.data = to;
  for (int64_t plane = window.plane; plane < endPlane; ++plane) {
    for (int64_t row = window.row; row < endRow;) {
      int64_t end = row + 1;
      while (end < endRow && tapsInside(1, end) == tapsInside(1, row)) ++end;
      runRows(window, packed, bias, y, plane, row, end - row);
      row = end;
    }
  }
}

// Rows of a plane whose taps inside x are the same.
void Stem::runRows(const Window& window, const float* packed, const float* bias, float* y, int64_t plane,
                   int64_t row, int64_t rows) const {
  const Conv3dProblem& p = problem_;
  const Taps deep = tapsInside(0, plane), across = tapsInside(1, row);
  const int64_t rowPitch = x_.tapStep(1), voxelPitch = x_.step(2);
  const float* const source =
      window.data +
      ((plane - window.plane) * x_.stride[0] + deep.first * x_.dilation[0]) * window.planePitch +
      (row - window.row) * x_.step(1) + across.first * rowPitch;
  float* const output = y + (((window.sample * p.Z + plane) * p.P + row) * p.Q) * p.K;
  DensePlaces places;
  DenseTile tile = places.tile();
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
    // Tiles are as even as possible. Those of lines follow one another, as y lies in memory.
    if (inLines_) {
      const int64_t tiles = divideUp(groupsPerRow_, mostGroups);
      const int64_t least = groupsPerRow_ / tiles, larger = groupsPerRow_ % tiles;
      for (int64_t line = 0; line < rows; ++line) {
        places.sources[0] = source + line * x_.step(1);
        places.outputs[0] = output + line * p.Q * p.K + firstChannel;
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t groups = least + (t < larger);
          kernels_.line[vectors - 1][groups - 1](tile);
          places.sources[0] += groups * kernels_.groupVoxels;
          places.outputs[0] += groups * kernels_.groupVoxels * p.K;
        }
      }
      continue;
    }
    // Else a tile of a long row is followed by those below it, which read most of what is in the first-level
    // cache by then; short rows share tiles.
    const bool down = groupsPerRow_ >= mostGroups;
    const int64_t groupsOfUnit = down ? groupsPerRow_ : groupsPerRow_ * rows,
                  tiles = divideUp(groupsOfUnit, mostGroups);
    std::fill_n(places.ahead, kMaxDenseGroups, down ? x_.step(1) : 0);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = groupsOfUnit * t / tiles, groups = groupsOfUnit * (t + 1) / tiles - first;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t line = (first + g) / groupsPerRow_, inRow = (first + g) % groupsPerRow_;
        // The last group overlaps its neighbour where groups do not divide the row.
        const int64_t voxel = std::min(inRow * kernels_.groupVoxels, p.Q - kernels_.groupVoxels);
        places.sources[g] = source + line * x_.step(1) + voxel * voxelPitch;
        places.outputs[g] = output + (line * p.Q + voxel) * p.K + firstChannel;
      }
      for (int64_t line = 0; line < (down ? rows : 1); ++line) {
        kernels_.tile[vectors - 1][groups - 1](tile);
        for (int64_t g = 0; g < groups; ++g) {
          places.sources[g] += x_.step(1);
          places.outputs[g] += p.Q * p.K;
        }
      }
    }
  }
}

}  // namespace voxgrad::cpu
