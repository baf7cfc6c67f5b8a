#include "conv3d_weight_gradient_taps.h"

#include <vector>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

// What a thread has packed of one chunk.
struct TapWeightGradient::Panels {
  float *windows, *gradients;
  int64_t first = 0, last = 0;  // the voxels of every row whose dy is packed
  // Runs of voxels that follow one another in both panels: [segments]
  int64_t segments = 0;
  const float** windowStarts;  // [segments][vectors]
  int64_t *gradientStarts, *lengths;
  const float** gradientPointers;
};

TapWeightGradient::TapWeightGradient(const Conv3dProblem& p)
    : problem_(p), kernels_(weightGradientKernels()), cPerGroup_(p.C / p.groups), kPerGroup_(p.K / p.groups) {
  const int64_t lanes = kernels_.lanes, block = kernels_.maxChannels;
  vectors_ = divideUp(cPerGroup_, lanes);
  columns_ = divideUp(vectors_, kMaxWindowVectors);
  constexpr int64_t kPartFloats = 112 * 1024, kChunkVoxels = 160, kDirectVoxels = 256, kTasks = 16;
  const int64_t voxels = p.N * p.Z * p.P * p.Q, blocks = divideUp(kPerGroup_, block);
  const int64_t widest = divideUp(vectors_, columns_) * lanes;
  direct_ = voxels <= kDirectVoxels && cPerGroup_ % lanes == 0;
  const int64_t fit = std::max<int64_t>(1, kPartFloats / (p.taps() * widest * block));
  ranges_ = direct_ ? std::min(blocks, divideUp(kTasks, columns_ * p.groups)) : divideUp(blocks, fit);
  sumsPerPart_ = p.taps() * divideUp(blocks, ranges_) * block * widest;

  const int64_t chunkVoxels = direct_ ? kDirectVoxels : kChunkVoxels;
  chunksPerRow_ = divideUp(p.Q, 2 * chunkVoxels);
  voxelsPerChunk_ = divideUp(p.Q, chunksPerRow_);
  rowsPerChunk_ = std::max<int64_t>(1, chunkVoxels / p.Q);
  chunks_ = divideUp(p.N * p.Z * p.P, rowsPerChunk_) * chunksPerRow_;
  slabs_ = direct_ ? 1 : std::min(chunks_, divideUp(kTasks, parts()));
}

bool TapWeightGradient::pays(const Conv3dProblem& p) {
  return p.taps() > 1 && p.C / p.groups >= 32 && p.K / p.groups >= 32;
}

TapWeightGradient::Part TapWeightGradient::partOf(int64_t index) const {
  const int64_t block = kernels_.maxChannels, blocks = divideUp(kPerGroup_, block);
  const int64_t range = index % ranges_, column = index / ranges_ % columns_;
  Part part;
  part.group = index / ranges_ / columns_;
  const int64_t firstVector = vectors_ * column / columns_;
  part.vectors = vectors_ * (column + 1) / columns_ - firstVector;
  part.firstInput = firstVector * kernels_.lanes;
  part.inputs = std::min(cPerGroup_ - part.firstInput, part.vectors * kernels_.lanes);
  part.firstOutput = blocks * range / ranges_ * block;
  part.outputs = std::min(kPerGroup_, blocks * (range + 1) / ranges_ * block) - part.firstOutput;
  return part;
}

TapWeightGradient::Chunk TapWeightGradient::chunkOf(int64_t index) const {
  const int64_t firstRow = index / chunksPerRow_ * rowsPerChunk_, piece = index % chunksPerRow_;
  const int64_t rows = std::min(rowsPerChunk_, problem_.N * problem_.Z * problem_.P - firstRow);
  return {firstRow, rows, problem_.Q * piece / chunksPerRow_, problem_.Q * (piece + 1) / chunksPerRow_};
}

size_t TapWeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  if (slabs_ > 1) cursor.floats(slabs_ * parts() * sumsPerPart_);
  return cursor.used();
}

void TapWeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  float* const sums = static_cast<float*>(workspace);
  if (direct_) clearUnreached(dw);
  parallelFor(parts() * slabs_, [&](int64_t task) {
    sumPart(x, dy, partOf(task % parts()), task / parts(), slabs_ > 1 ? sums + task * sumsPerPart_ : nullptr,
            dw);
  });
  if (slabs_ > 1)
    parallelFor(parts(), [&](int64_t index) { storePart(partOf(index), sums + index * sumsPerPart_, dw); });
}

// Taps that find no voxel inside x, of whole filters at a time: there may be more of them than of others.
void TapWeightGradient::clearUnreached(float* dw) const {
  const Conv3dProblem& p = problem_;
  const auto reaches = [](int64_t source, int64_t outputs, int64_t stride, int64_t offset) {
    const ReachedOutputs inside = reachedOutputs(outputs, source, stride, offset);
    return inside.first < inside.last;
  };
  std::vector<int64_t> unreached;
  for (int64_t tap = 0; tap < p.taps(); ++tap) {
    const int64_t r = tap / (p.S * p.T), s = tap / p.T % p.S, t = tap % p.T;
    const bool reached = reaches(p.D, p.Z, p.stride[0], r * p.dilation[0] - p.pad[0]) &&
                         reaches(p.H, p.P, p.stride[1], s * p.dilation[1] - p.pad[1]) &&
                         reaches(p.W, p.Q, p.stride[2], t * p.dilation[2] - p.pad[2]);
    if (!reached) unreached.push_back(tap);
  }
  if (unreached.empty()) return;
  parallelFor(p.K, [&](int64_t k) {
    float* const filter = dw + k * p.taps() * cPerGroup_;
    for (const int64_t tap : unreached) std::fill_n(filter + tap * cPerGroup_, cPerGroup_, 0.0f);
  });
}

void TapWeightGradient::sumPart(const float* x, const float* dy, const Part& part, int64_t slab, float* sums,
                                float* dw) const {
  const int64_t block = kernels_.maxChannels, blocks = divideUp(part.outputs, block);
  const int64_t window = part.vectors * kernels_.lanes;
  const int64_t chunkVoxels = rowsPerChunk_ * voxelsPerChunk_;
  const int64_t taps = problem_.taps(), tapFloats = blocks * block * window;
  const int64_t roomForSums = slabs_ == 1 && !direct_ ? taps * tapFloats : 0;
  constexpr int64_t kLine = 16;
  float* const room = threadScratch<float>(
      static_cast<size_t>(chunkVoxels * (window + blocks * block) + roomForSums + kLine));
  const auto misaligned = reinterpret_cast<uintptr_t>(room) % 64 / sizeof(float);
  Panels panels;
  panels.windows = room + (kLine - misaligned) % kLine;
  panels.gradients = panels.windows + chunkVoxels * window;
  if (slabs_ == 1) sums = panels.gradients + chunkVoxels * blocks * block;
  bool* const met = threadScratch<bool>(static_cast<size_t>(taps));
  std::fill_n(met, taps, false);
  panels.windowStarts = threadScratch<const float*>(static_cast<size_t>(rowsPerChunk_ * (part.vectors + 1)));
  panels.gradientPointers = panels.windowStarts + rowsPerChunk_ * part.vectors;
  panels.lengths = threadScratch<int64_t>(static_cast<size_t>(rowsPerChunk_ * 2));
  panels.gradientStarts = panels.lengths + rowsPerChunk_;

  WeightGradientTile tile;
  tile.windows = panels.windowStarts;
  tile.gradients = panels.gradientPointers;
  tile.voxels = panels.lengths;
  tile.windowStride = window;
  tile.gradientStride = block;
  tile.sumStride = direct_ ? taps * cPerGroup_ : window;
  float* const filters =
      dw + (part.group * kPerGroup_ + part.firstOutput) * taps * cPerGroup_ + part.firstInput;
  for (int64_t index = chunks_ * slab / slabs_; index < chunks_ * (slab + 1) / slabs_; ++index) {
    const Chunk chunk = chunkOf(index);
    panels.first = panels.last = 0;
    for (int64_t t = 0; t < problem_.T; ++t) {
      const int64_t stride = problem_.stride[2], offset = t * problem_.dilation[2] - problem_.pad[2];
      const int64_t first = std::max(chunk.firstVoxel, offset < 0 ? divideUp(-offset, stride) : 0);
      const int64_t last = std::min(chunk.lastVoxel, divideUp(problem_.W - offset, stride));
      if (first >= last) continue;
      // Packed anew for the voxels of this tap, dy has no gaps between short rows.
      constexpr int64_t kShortRow = 16;
      const bool compact = problem_.Q < kShortRow;
      const int64_t from = compact ? first : chunk.firstVoxel, to = compact ? last : chunk.lastVoxel;
      if (from != panels.first || to != panels.last) {
        panels.first = from, panels.last = to;
        packGradients(dy, part, chunk, panels);
      }
      const int64_t blockFloats = chunk.rows * (to - from) * block;
      for (int64_t rowTap = 0; rowTap < problem_.R * problem_.S; ++rowTap) {
        if (!packWindows(x, part, chunk, {rowTap / problem_.S, rowTap % problem_.S, t, first, last}, panels))
          continue;
        const int64_t tap = rowTap * problem_.T + t;
        tile.rows = panels.segments;
        tile.add = met[tap];
        for (int64_t b = 0; b < blocks; ++b) {
          for (int64_t i = 0; i < panels.segments; ++i)
            panels.gradientPointers[i] = panels.gradients + b * blockFloats + panels.gradientStarts[i];
          tile.sums = direct_ ? filters + (b * block * taps + tap) * cPerGroup_
                              : sums + tap * tapFloats + b * block * window;
          const int64_t channels = std::min(block, part.outputs - b * block);
          kernels_.sum[0][channels - 1][part.vectors - 1](tile);
        }
        met[tap] = true;
      }
    }
  }
  for (int64_t tap = 0; tap < taps && !direct_; ++tap) {
    if (!met[tap]) std::fill_n(sums + tap * tapFloats, tapFloats, 0.0f);
  }
  if (slabs_ == 1 && !direct_) storePart(part, sums, dw);
}

// [blocks][rows][voxels][channels of a block]
void TapWeightGradient::packGradients(const float* dy, const Part& part, const Chunk& chunk,
                                      Panels& panels) const {
  const Conv3dProblem& p = problem_;
  const int64_t voxels = panels.last - panels.first, block = kernels_.maxChannels;
  for (int64_t row = 0; row < chunk.rows; ++row) {
    const float* const from = dy + ((chunk.firstRow + row) * p.Q + panels.first) * p.yVoxel() +
                              part.group * kPerGroup_ + part.firstOutput;
    kernels_.packGradients(panels.gradients + row * voxels * block, chunk.rows * voxels * block, from,
                           p.yVoxel(), voxels, part.outputs);
  }
}

// The voxels that the tap meets, [voxels][vectors][lanes]; false when there are none.
bool TapWeightGradient::packWindows(const float* x, const Part& part, const Chunk& chunk, const Tap& tap,
                                    Panels& panels) const {
  const Conv3dProblem& p = problem_;
  const int64_t voxels = tap.last - tap.first, packed = panels.last - panels.first, lanes = kernels_.lanes;
  const int64_t w = tap.first * p.stride[2] + tap.t * p.dilation[2] - p.pad[2];
  float* to = panels.windows;
  panels.segments = 0;
  bool follows = false;
  for (int64_t i = 0; i < chunk.rows; ++i) {
    const int64_t row = chunk.firstRow + i, n = row / (p.Z * p.P);
    const int64_t d = row / p.P % p.Z * p.stride[0] + tap.r * p.dilation[0] - p.pad[0];
    const int64_t h = row % p.P * p.stride[1] + tap.s * p.dilation[1] - p.pad[1];
    const bool inside = d >= 0 && d < p.D && h >= 0 && h < p.H;
    if (inside) {
      if (!follows) {
        const int64_t segment = panels.segments++;
        for (int64_t v = 0; v < part.vectors; ++v)
          panels.windowStarts[segment * part.vectors + v] = to + v * lanes;
        panels.gradientStarts[segment] = (i * packed + tap.first - panels.first) * kernels_.maxChannels;
        panels.lengths[segment] = 0;
      }
      const float* const from =
          x + (((n * p.D + d) * p.H + h) * p.W + w) * p.C + part.group * cPerGroup_ + part.firstInput;
      kernels_.packWindows(to, part.vectors * lanes, from, p.stride[2] * p.C, voxels, part.inputs);
      to += voxels * part.vectors * lanes;
      panels.lengths[panels.segments - 1] += voxels;
    }
    follows = inside && voxels == packed;
  }
  return panels.segments > 0;
}

void TapWeightGradient::storePart(const Part& part, const float* sums, float* dw) const {
  const int64_t window = part.vectors * kernels_.lanes;
  const int64_t rows = divideUp(part.outputs, int64_t{kernels_.maxChannels}) * kernels_.maxChannels;
  const int64_t slabFloats = parts() * sumsPerPart_;
  for (int64_t k = 0; k < part.outputs; ++k) {
    for (int64_t tap = 0; tap < problem_.taps(); ++tap) {
      const float* const from = sums + (tap * rows + k) * window;
      const int64_t filter = part.group * kPerGroup_ + part.firstOutput + k;
      float* const to = dw + (filter * problem_.taps() + tap) * cPerGroup_ + part.firstInput;
      std::copy_n(from, part.inputs, to);
      for (int64_t slab = 1; slab < slabs_; ++slab) {
        for (int64_t c = 0; c < part.inputs; ++c) to[c] += from[slab * slabFloats + c];
      }
    }
  }
}

}  // namespace voxgrad::cpu
