#include "conv3d_winograd_slices_weight_gradient.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Floats of sums that a task keeps in a 2 MiB second-level cache, and of the transformed tiles beside them.
constexpr int64_t kCachedSums = 128 * 1024, kBlockFloats = 224 * 1024, kMostBlockTiles = 8;
// With shorter vectors, which take longer over the products, more sums pay too, beside more tiles, where a
// map has many of them.
constexpr int64_t kNearSums = 512 * 1024, kMostBlockFloats = 1024 * 1024, kManyTiles = 192;
// Where tasks share transformed tiles: floats of them, so many tiles, and tiles of a slice in a block.
constexpr int64_t kSharedFloats = 1152 * 1024, kLeastSharedTiles = 128, kMostSharedTiles = 256;
constexpr int64_t kMostSharedBlockTiles = 16;
// Channels of a task that sums everything for them, and as many tasks as threads need to share them evenly.
constexpr int64_t kTaskChannels = 32, kThreadTasks = 8;

}  // namespace

bool WinogradSlicesWeightGradient::sharesTiles() const {
  const bool many = depth_.slices() * tiles_.along[0] * tiles_.along[1] >= kManyTiles;
  return sumFloats() > (lanes() < 16 && many ? kNearSums : kCachedSums);
}

WinogradSlicesWeightGradient::WinogradSlicesWeightGradient(const Conv3dProblem& p, int64_t outputs)
    : problem_(p),
      tiles_(p, false, outputs),
      depth_(p, false),
      products_(winogradKernels()),
      sourceStride_(divideUp(p.C, lanes()) * lanes()),
      gradientStride_(divideUp(p.K, lanes()) * lanes()),
      blocks_(blocks()) {
  if (!sharesTiles()) {
    cut_ = Cut::slabs;
    sharedBlocks_ = 1;
    slabs_ = std::min(blocks_.count(), winogradSlabs(tiles_.count()));
    workers_ = std::min<int64_t>(ThreadPool::shared().size(), slabs_);
    return;
  }
  sharedBlocks_ =
      std::min(blocks_.count(), divideUp(sharedTiles(), blocks_.blockSlices * blocks_.blockTiles));
  // Neither changes the order in which anything is added.
  const bool enough = channelRows() * channelColumns() >= kThreadTasks * ThreadPool::shared().size();
  cut_ = sharedBlocks_ == blocks_.count() && enough ? Cut::channels : Cut::frequencies;
  slabs_ = workers_ = 1;
}

int64_t WinogradSlicesWeightGradient::channelRows() const { return divideUp(problem_.K, kTaskChannels); }
int64_t WinogradSlicesWeightGradient::channelColumns() const {
  return divideUp(sourceStride_, kTaskChannels);
}

int64_t WinogradSlicesWeightGradient::sharedTiles() const {
  const int64_t fitting = kSharedFloats / (frequencies() * (sourceStride_ + gradientStride_));
  return std::clamp(fitting, kLeastSharedTiles, kMostSharedTiles);
}

WinogradBlocks WinogradSlicesWeightGradient::blocks() const {
  const int64_t samples = problem_.N * depth_.maps(), inSlice = tiles_.inSlice();
  if (sharesTiles())
    return WinogradBlocks(samples, depth_.slices(), inSlice, kMostSharedBlockTiles, sharedTiles(), 0);
  const int64_t tiles = std::min(kMostBlockTiles, tiles_.along[1]);
  const int64_t slabTiles = divideUp(tiles_.count(), winogradSlabs(tiles_.count()));
  const int64_t floats = std::clamp(lanes() == 16 ? 0 : sumFloats(), kBlockFloats, kMostBlockFloats);
  const int64_t room = std::min(slabTiles, floats / (frequencies() * (sourceStride_ + gradientStride_)));
  return WinogradBlocks(samples, depth_.slices(), inSlice, tiles, room, 1);
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
  room.sums = cursor.floats(cut_ == Cut::channels
                                ? ThreadPool::shared().size() * sumFloats(kTaskChannels, kTaskChannels)
                                : slabs_ * sumFloats());
  room.transformed = cursor.floats(workers_ * transformedFloats());
  room.bytes = cursor.used();
  return room;
}

size_t WinogradSlicesWeightGradient::workspace() const { return divide(nullptr).bytes; }

void WinogradSlicesWeightGradient::run(const ConvolutionSource& x, const float* dy, float* dw,
                                       void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.zeroRow, std::max(tiles_.sourceRow(), problem_.Q * problem_.K), 0.0f);
  if (cut_ == Cut::channels) return sumChannels(x, dy, room, dw);
  if (cut_ == Cut::frequencies) {
    sumFrequencies(x, dy, room);
  } else {
    forTasks(workers_, slabs_, [&](int64_t worker, int64_t slab) {
      sumSlab(slab, x, dy, room, room.transformed + worker * transformedFloats());
    });
  }
  parallelFor(problem_.K, [&](int64_t k) { transformBack(k, all(room.sums), dw); });
}

void WinogradSlicesWeightGradient::sumSlab(int64_t slab, const ConvolutionSource& x, const float* dy,
                                           const Room& room, float* transformed) const {
  float* const gradients = transformed + sourceFloats();
  const Sums sums = all(room.sums + slab * sumFloats());
  const int64_t begin = blocks_.count() * slab / slabs_, end = blocks_.count() * (slab + 1) / slabs_;
  for (int64_t index = begin; index < end; ++index) {
    const WinogradBlock block = blockOf(index);
    for (int64_t i = 0; i < block.slices + kDepthTaps - 1; ++i)
      transform(block, i, x, dy, room, transformed, gradients);
    for (int64_t tap = 0; tap < kDepthTaps; ++tap)
      sum(block, transformed, gradients, {tap, 0, frequencies()}, index > begin, sums);
  }
}

float* WinogradSlicesWeightGradient::sourcesOf(int64_t block, const Room& room) const {
  return room.transformed + block % sharedBlocks_ * blockSources();
}

float* WinogradSlicesWeightGradient::gradientsOf(int64_t block, const Room& room) const {
  return room.transformed + sourceFloats() + block % sharedBlocks_ * blockGradients();
}

void WinogradSlicesWeightGradient::transformShared(int64_t first, int64_t blocks, const ConvolutionSource& x,
                                                   const float* dy, const Room& room) const {
  const int64_t places = blocks_.blockSlices + kDepthTaps - 1;
  parallelFor(blocks * places, [&](int64_t task) {
    const int64_t index = first + task / places, place = task % places;
    const WinogradBlock block = blockOf(index);
    if (place < block.slices + kDepthTaps - 1)
      transform(block, place, x, dy, room, sourcesOf(index, room), gradientsOf(index, room));
  });
}

void WinogradSlicesWeightGradient::sumFrequencies(const ConvolutionSource& x, const float* dy,
                                                  const Room& room) const {
  for (int64_t first = 0; first < blocks_.count(); first += sharedBlocks_) {
    const int64_t end = std::min(first + sharedBlocks_, blocks_.count());
    transformShared(first, end - first, x, dy, room);
    parallelFor(frequencies() * kDepthTaps, [&](int64_t task) {
      const Part part = {task % kDepthTaps, task / kDepthTaps, 1};
      for (int64_t i = first; i < end; ++i)
        sum(blockOf(i), sourcesOf(i, room), gradientsOf(i, room), part, i > 0, all(room.sums));
    });
  }
}

void WinogradSlicesWeightGradient::sumChannels(const ConvolutionSource& x, const float* dy, const Room& room,
                                               float* dw) const {
  transformShared(0, blocks_.count(), x, dy, room);
  // As even as whole vectors of sources let them be.
  const int64_t vectors = sourceStride_ / lanes();
  const int64_t columns = channelColumns(), rows = channelRows(), tasks = columns * rows;
  forTasks(std::min<int64_t>(ThreadPool::shared().size(), tasks), tasks, [&](int64_t worker, int64_t task) {
    const int64_t row = task / columns, column = task % columns;
    const int64_t output = problem_.K * row / rows, source = vectors * column / columns * lanes();
    const Sums sums = {room.sums + worker * sumFloats(kTaskChannels, kTaskChannels), output,
                       problem_.K * (row + 1) / rows - output, source,
                       vectors * (column + 1) / columns * lanes() - source};
    for (int64_t tap = 0; tap < kDepthTaps; ++tap) {
      for (int64_t i = 0; i < blocks_.count(); ++i)
        sum(blockOf(i), sourcesOf(i, room), gradientsOf(i, room), {tap, 0, frequencies()}, i > 0, sums);
    }
    for (int64_t k = 0; k < sums.outputs; ++k) transformBack(output + k, sums, dw);
  });
}

// Slice `i` of the sources that the block reads, where it is not in the padding, and of its output gradients.
void WinogradSlicesWeightGradient::transform(const WinogradBlock& block, int64_t i,
                                             const ConvolutionSource& x, const float* dy, const Room& room,
                                             float* sources, float* gradients) const {
  const Conv3dProblem& p = problem_;
  const int64_t panel = kWinogradVectors * lanes();
  const WinogradDepthMap map = depth_.map(block.sample);
  const int64_t place = block.firstSlice + i;
  if (place >= map.firstInside && place < map.endInside) {
    tiles_.transformSource(
        (map.source + place * depth_.step) * tiles_.inSlice() + block.firstTile, block.tiles, x, room.zeroRow,
        {sources + i * block.tiles * sourceStride_, sourceFrequency(), panel, sourceStride_});
  }
  if (i >= block.slices) return;
  const int64_t output = map.output + place * depth_.step;
  tiles_.transformGradient(
      output * tiles_.inSlice() + block.firstTile, block.tiles, dy, p.K, room.zeroRow,
      {gradients + i * block.tiles * gradientStride_, gradientFrequency(), panel, gradientStride_});
}

// What the block adds to the sums of some frequencies and one tap along the depth.
void WinogradSlicesWeightGradient::sum(const WinogradBlock& block, const float* sources,
                                       const float* gradients, const Part& part, bool add,
                                       const Sums& sums) const {
  float* const to = sums.data + (part.depthTap * frequencies() + part.firstFrequency) * sumFrequency(sums);
  // The block's slices whose source is not in the padding.
  const WinogradDepthMap map = depth_.map(block.sample);
  const int64_t place = block.firstSlice + part.depthTap;
  const int64_t begin = std::max<int64_t>(0, map.firstInside - place);
  const int64_t end = std::min(block.slices, map.endInside - place);
  if (begin >= end) {
    if (!add) std::fill_n(to, part.frequencies * sumFrequency(sums), 0.0f);
    return;
  }
  WinogradSum sum;
  sum.frequencies = part.frequencies;
  sum.sources = sources + part.firstFrequency * sourceFrequency() +
                (begin + part.depthTap) * block.tiles * sourceStride_ + sums.firstSource;
  sum.gradients = gradients + part.firstFrequency * gradientFrequency() +
                  begin * block.tiles * gradientStride_ + sums.firstOutput;
  sum.sourceFrequencyStride = sourceFrequency();
  sum.sourceStride = sourceStride_;
  sum.sourcePanelStride = sum.gradientPanelStride = kWinogradVectors * lanes();
  sum.gradientFrequencyStride = gradientFrequency();
  sum.gradientStride = gradientStride_;
  sum.tiles = (end - begin) * block.tiles;
  sum.outputs = sums.outputs;
  sum.vectors = sums.sources / lanes();
  sum.add = add;
  sum.sums = to;
  sum.sumFrequencyStride = sumFrequency(sums);
  sum.sumStride = sums.sources;
  products_.sum(sum);
}

void WinogradSlicesWeightGradient::transformBack(int64_t k, const Sums& sums, float* dw) const {
  WinogradFilterGradient part;
  part.slabs = slabs_;
  part.slabStride = sumFloats();
  part.frequencyStride = sumFrequency(sums);
  part.channels = std::min(sums.sources, problem_.C - sums.firstSource);
  part.tapStride = problem_.C;
  for (int64_t tap = 0; tap < kDepthTaps; ++tap) {
    part.sums = sums.data + tap * frequencies() * sumFrequency(sums) + (k - sums.firstOutput) * sums.sources;
    part.taps = dw + (k * kDepthTaps + tap) * problem_.taps() / kDepthTaps * problem_.C + sums.firstSource;
    tiles_.kernels->filterGradient(part);
  }
}

}  // namespace voxgrad::cpu
