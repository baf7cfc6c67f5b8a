#include "conv3d_winograd_strided_weight_gradient.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Floats of sums that a task keeps in a 2 MiB second-level cache, and of the transformed tiles beside them.
constexpr int64_t kCachedSums = 160 * 1024, kSlabBlockFloats = 224 * 1024, kMostSlabTiles = 8;
// Floats that are transformed at a time where tasks share them, and the tiles that a slice of them has at
// least.
constexpr int64_t kSharedFloats = 4 * 1024 * 1024, kLeastSharedTiles = 64;

}  // namespace

bool WinogradStridedWeightGradient::cachesSums(const Conv3dProblem& p) {
  const WinogradStridedTiles tiles(p, false);
  return kFrequencies * p.R * tiles.chunks() * p.K * tiles.tileFloats() <= kCachedSums;
}

WinogradStridedWeightGradient::WinogradStridedWeightGradient(const Conv3dProblem& p)
    : problem_(p),
      tiles_(p, false),
      depth_(p, false),
      products_(winogradKernels()),
      table_(winograd2dTable()),
      gradientStride_(divideUp(p.K, lanes()) * lanes()),
      inSlabs_(cachesSums(p)),
      blocks_(blocks()) {
  const int64_t rows = tiles_.count() * depth_.steps(), workers = ThreadPool::shared().size();
  slabs_ = inSlabs_ ? std::min(blocks_.count(), winogradSlabs(rows)) : 1;
  workers_ = std::min(workers, slabs_);
}

WinogradBlocks WinogradStridedWeightGradient::blocks() const {
  const int64_t step = depth_.sliceStep * tiles_.chunks() * tiles_.tileFloats() + gradientStride_;
  const int64_t room = (inSlabs_ ? kSlabBlockFloats : kSharedFloats) / (kFrequencies * step),
                steps = depth_.steps();
  const int64_t tiles =
      inSlabs_ ? std::min(kMostSlabTiles, tiles_.along(1)) : std::max(kLeastSharedTiles, room / steps);
  return WinogradBlocks(1, steps, tiles_.count(), tiles, room, 1);
}

struct WinogradStridedWeightGradient::Room {
  float *zeroRow, *sums, *transformed;
  size_t bytes;
};

WinogradStridedWeightGradient::Room WinogradStridedWeightGradient::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.zeroRow = cursor.floats(std::max(tiles_.sourceRow(), problem_.Q * problem_.K));
  room.sums = cursor.floats(slabs_ * sumFloats());
  room.transformed = cursor.floats(workers_ * transformedFloats());
  room.bytes = cursor.used();
  return room;
}

size_t WinogradStridedWeightGradient::workspace() const { return divide(nullptr).bytes; }

void WinogradStridedWeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.zeroRow, std::max(tiles_.sourceRow(), problem_.Q * problem_.K), 0.0f);
  if (depth_.axis[0].taps < problem_.R) std::fill_n(room.sums, slabs_ * sumFloats(), 0.0f);
  inSlabs_ ? runSlabs(x, dy, room) : runFrequencies(x, dy, room);
  parallelFor(problem_.K, [&](int64_t k) { transformBack(k, room, dw); });
}

void WinogradStridedWeightGradient::runSlabs(const float* x, const float* dy, const Room& room) const {
  forTasks(workers_, slabs_, [&](int64_t worker, int64_t slab) {
    float* const transformed = room.transformed + worker * transformedFloats();
    const int64_t begin = blocks_.count() * slab / slabs_, end = blocks_.count() * (slab + 1) / slabs_;
    for (int64_t index = begin; index < end; ++index) {
      const WinogradBlock block = blocks_.at(index);
      for (int64_t i = 0; i < depth_.span(block.slices); ++i)
        transformSource(block, i, 0, block.tiles, x, room, transformed);
      for (int64_t i = 0; i < block.slices; ++i)
        transformGradient(block, i, 0, block.tiles, dy, room, transformed);
      for (int64_t j = 0; j < depth_.axis[0].taps; ++j) {
        for (const WinogradFrequencies& frequencies : kPhaseFrequencies)
          sum(block, frequencies, j, transformed, index > begin, room.sums + slab * sumFloats());
      }
    }
  });
}

void WinogradStridedWeightGradient::runFrequencies(const float* x, const float* dy, const Room& room) const {
  const int64_t taps = depth_.axis[0].taps;
  for (int64_t index = 0; index < blocks_.count(); ++index) {
    const WinogradBlock block = blocks_.at(index);
    const int64_t span = depth_.span(block.slices), run = tiles_.along(1), runs = divideUp(block.tiles, run);
    parallelFor((span + block.slices) * runs, [&](int64_t task) {
      const int64_t i = task / runs, first = task % runs * run, tiles = std::min(run, block.tiles - first);
      if (i < span)
        transformSource(block, i, first, tiles, x, room, room.transformed);
      else
        transformGradient(block, i - span, first, tiles, dy, room, room.transformed);
    });
    parallelFor(kFrequencies * taps, [&](int64_t task) {
      sum(block, phaseFrequency(task / taps), task % taps, room.transformed, index > 0, room.sums);
    });
  }
}

// Tiles [first, first + tiles) of a block in source slice `i` of those that it reads; zeros for the padding.
void WinogradStridedWeightGradient::transformSource(const WinogradBlock& block, int64_t i, int64_t first,
                                                    int64_t tiles, const float* x, const Room& room,
                                                    float* transformed) const {
  float* const to =
      transformed + (depth_.slot(i, blocks_.blockSlices) * block.tiles + first) * tiles_.tileFloats();
  tiles_.transformSlice(table_, x, depth_.sourceSlices,
                        block.firstSlice * depth_.sliceStep + depth_.lowest + i, block.firstTile + first,
                        tiles, room.zeroRow, to, sourceFrequency(), sourceChunk());
}

void WinogradStridedWeightGradient::transformGradient(const WinogradBlock& block, int64_t i, int64_t first,
                                                      int64_t tiles, const float* dy, const Room& room,
                                                      float* transformed) const {
  const int64_t floats = problem_.P * problem_.Q * problem_.K;
  tiles_.transformGradient(table_, dy + (block.firstSlice + i) * floats, depth_.outputSlices * floats,
                           problem_.K, block.firstTile + first, tiles, room.zeroRow,
                           transformed + sourceFloats() + (i * block.tiles + first) * gradientStride_,
                           gradientFrequency(), gradientStride_);
}

// What the block adds to the sums of some frequencies and the j-th tap along the depth.
void WinogradStridedWeightGradient::sum(const WinogradBlock& block, const WinogradFrequencies& frequencies,
                                        int64_t j, const float* transformed, bool add, float* sums) const {
  const GatherAxis& axis = depth_.axis[0];
  const int64_t slot = depth_.slot(axis.offset(j) - depth_.lowest, blocks_.blockSlices);
  const int64_t first = frequencies.first, phase = frequencies.firstPhase * tiles_.chunk();
  WinogradSum sum;
  sum.frequencies = frequencies.count;
  sum.gradients = transformed + sourceFloats() + first * gradientFrequency();
  sum.sourceFrequencyStride = frequencies.stride * sourceFrequency();
  sum.sourceStride = tiles_.tileFloats();
  sum.sourcePanelStride = sum.gradientPanelStride = kWinogradVectors * lanes();
  sum.gradientFrequencyStride = frequencies.stride * gradientFrequency();
  sum.gradientStride = gradientStride_;
  sum.tiles = block.slices * block.tiles;
  sum.outputs = problem_.K;
  sum.add = add;
  sum.sumFrequencyStride = frequencies.stride * sumFrequency();
  sum.sumStride = tiles_.tileFloats();
  for (int64_t chunk = 0; chunk < tiles_.chunks(); ++chunk) {
    const int64_t channels = (frequencies.phases - 1) * tiles_.chunk() + tiles_.chunkChannels(chunk);
    sum.vectors = divideUp(channels, lanes());
    sum.sources = transformed + first * sourceFrequency() + chunk * sourceChunk() +
                  slot * block.tiles * tiles_.tileFloats() + phase;
    sum.sums = sums + first * sumFrequency() + (axis.tap(j) * tiles_.chunks() + chunk) * sumChunk() + phase;
    products_.sum(sum);
  }
}

void WinogradStridedWeightGradient::transformBack(int64_t k, const Room& room, float* dw) const {
  const int64_t chunks = tiles_.chunks();
  WinogradFilterGradient part;
  part.slabs = slabs_;
  part.slabStride = sumFloats();
  part.frequencyStride = sumFrequency();
  part.tapStride = problem_.C;
  for (int64_t i = 0; i < problem_.R * chunks; ++i) {
    const int64_t depthTap = i / chunks, chunk = i % chunks;
    part.channels = tiles_.chunkChannels(chunk);
    part.taps = dw + (k * problem_.R + depthTap) * WinogradStridedTiles::kSliceTaps * problem_.C +
                chunk * tiles_.chunk();
    for (int64_t slot = 0; slot < tiles_.sourcePhases(); ++slot) {
      const WinogradPhase phase = kWinogradPhases[slot];
      part.sums = room.sums + i * sumChunk() + k * tiles_.tileFloats() + slot * tiles_.chunk();
      table_.phases[phase.taps[0]][phase.taps[1]].filterGradient(part);
    }
  }
}

}  // namespace voxgrad::cpu
