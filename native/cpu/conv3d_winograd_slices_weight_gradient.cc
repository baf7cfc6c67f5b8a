#include "conv3d_winograd_slices_weight_gradient.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Floats of sums that a task keeps in a 2 MiB second-level cache, and of the transformed tiles beside them.
constexpr int64_t kCachedSums = 128 * 1024, kBlockFloats = 224 * 1024, kMostBlockTiles = 8;
// Of tiles beside more sums, where the second-level cache is smaller.
constexpr int64_t kMostBlockFloats = 1024 * 1024;

}  // namespace

bool WinogradSlicesWeightGradient::cachesSums() const { return sumFloats() <= kCachedSums; }

WinogradSlicesWeightGradient::WinogradSlicesWeightGradient(const Conv3dProblem& p, int64_t outputs)
    : problem_(p),
      tiles_(p, false, outputs),
      depth_(p, false),
      products_(winogradKernels()),
      sourceStride_(divideUp(p.C, lanes()) * lanes()),
      gradientStride_(divideUp(p.K, lanes()) * lanes()),
      blocks_(cut()) {
  slabs_ = std::min(blocks_.count(), winogradSlabs(tiles_.count()));
  workers_ = std::min<int64_t>(ThreadPool::shared().size(), slabs_);
}

WinogradBlocks WinogradSlicesWeightGradient::cut() const {
  const int64_t tiles = std::min(kMostBlockTiles, tiles_.along[1]);
  const int64_t floats =
      lanes() == 16 ? kBlockFloats : std::clamp(sumFloats(), kBlockFloats, kMostBlockFloats);
  const int64_t slabTiles = divideUp(tiles_.count(), winogradSlabs(tiles_.count()));
  const int64_t room = std::min(slabTiles, floats / (frequencies() * (sourceStride_ + gradientStride_)));
  return WinogradBlocks(problem_.N * depth_.maps(), depth_.slices(), tiles_.inSlice(), tiles, room, 1);
}

// Maps may have a slice less than the longest.
WinogradBlock WinogradSlicesWeightGradient::blockOf(int64_t index) const {
  WinogradBlock block = blocks_.at(index);
  block.slices = std::clamp<int64_t>(depth_.map(block.sample).slices - block.firstSlice, 0, block.slices);
  return block;
}

struct WinogradSlicesWeightGradient::Room {
  float *zeroRow, *sums, *transformed;
  size_t bytes;
};

WinogradSlicesWeightGradient::Room WinogradSlicesWeightGradient::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.zeroRow = cursor.floats(std::max(tiles_.sourceRow(), problem_.Q * problem_.K));
  room.sums = cursor.floats(slabs_ * sumFloats());
  room.transformed = cursor.floats(workers_ * transformedFloats());
  room.bytes = cursor.used();
  return room;
}

size_t WinogradSlicesWeightGradient::workspace() const { return divide(nullptr).bytes; }

void WinogradSlicesWeightGradient::run(const ConvolutionSource& x, const float* dy, float* dw,
                                       void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.zeroRow, std::max(tiles_.sourceRow(), problem_.Q * problem_.K), 0.0f);
  forTasks(workers_, slabs_, [&](int64_t worker, int64_t slab) {
    float* const transformed = room.transformed + worker * transformedFloats();
    float* const sums = room.sums + slab * sumFloats();
    const int64_t begin = blocks_.count() * slab / slabs_, end = blocks_.count() * (slab + 1) / slabs_;
    for (int64_t index = begin; index < end; ++index) {
      const WinogradBlock block = blockOf(index);
      for (int64_t i = 0; i < block.slices + kDepthTaps - 1; ++i)
        transform(block, i, x, dy, room, transformed);
      for (int64_t tap = 0; tap < kDepthTaps; ++tap)
        sum(block, transformed, tap, index > begin, sums + tap * tapFloats());
    }
  });
  parallelFor(problem_.K, [&](int64_t k) { transformBack(k, room, dw); });
}

// Slice `i` of the sources that the block reads, where it is not in the padding, and of its output gradients.
void WinogradSlicesWeightGradient::transform(const WinogradBlock& block, int64_t i,
                                             const ConvolutionSource& x, const float* dy, const Room& room,
                                             float* transformed) const {
  const Conv3dProblem& p = problem_;
  const int64_t panel = kWinogradVectors * lanes();
  const WinogradDepthMap map = depth_.map(block.sample);
  const int64_t place = block.firstSlice + i;
  if (place >= map.firstInside && place < map.endInside) {
    tiles_.transformSource(
        (map.source + place * depth_.step) * tiles_.inSlice() + block.firstTile, block.tiles, x, room.zeroRow,
        {transformed + i * block.tiles * sourceStride_, sourceFrequency(), panel, sourceStride_});
  }
  if (i >= block.slices) return;
  const int64_t output = map.output + place * depth_.step;
  tiles_.transformGradient(output * tiles_.inSlice() + block.firstTile, block.tiles, dy, p.K, room.zeroRow,
                           {transformed + sourceFloats() + i * block.tiles * gradientStride_,
                            gradientFrequency(), panel, gradientStride_});
}

// What the block adds to the sums of one tap along the depth.
void WinogradSlicesWeightGradient::sum(const WinogradBlock& block, const float* transformed, int64_t depthTap,
                                       bool add, float* sums) const {
  // The block's slices whose source is not in the padding.
  const WinogradDepthMap map = depth_.map(block.sample);
  const int64_t place = block.firstSlice + depthTap;
  const int64_t begin = std::max<int64_t>(0, map.firstInside - place);
  const int64_t end = std::min(block.slices, map.endInside - place);
  if (begin >= end) {
    if (!add) std::fill_n(sums, tapFloats(), 0.0f);
    return;
  }
  WinogradSum sum;
  sum.frequencies = frequencies();
  sum.sources = transformed + (begin + depthTap) * block.tiles * sourceStride_;
  sum.gradients = transformed + sourceFloats() + begin * block.tiles * gradientStride_;
  sum.sourceFrequencyStride = sourceFrequency();
  sum.sourceStride = sourceStride_;
  sum.sourcePanelStride = sum.gradientPanelStride = kWinogradVectors * lanes();
  sum.gradientFrequencyStride = gradientFrequency();
  sum.gradientStride = gradientStride_;
  sum.tiles = (end - begin) * block.tiles;
  sum.outputs = problem_.K;
  sum.vectors = sourceStride_ / lanes();
  sum.add = add;
  sum.sums = sums;
  sum.sumFrequencyStride = sumFrequency();
  sum.sumStride = sourceStride_;
  products_.sum(sum);
}

void WinogradSlicesWeightGradient::transformBack(int64_t k, const Room& room, float* dw) const {
  WinogradFilterGradient part;
  part.slabs = slabs_;
  part.slabStride = sumFloats();
  part.frequencyStride = sumFrequency();
  part.channels = part.tapStride = problem_.C;
  for (int64_t tap = 0; tap < kDepthTaps; ++tap) {
    part.sums = room.sums + tap * tapFloats() + k * sourceStride_;
    part.taps = dw + (k * kDepthTaps + tap) * problem_.taps() / kDepthTaps * problem_.C;
    tiles_.kernels->filterGradient(part);
  }
}

}  // namespace voxgrad::cpu
