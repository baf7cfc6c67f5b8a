#include "conv2d_winograd.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kBlockFloats = 256 * 1024;
constexpr int64_t kMostBlockTiles = 48, kLeastBlockTiles = 24;

int64_t toVectors(int64_t channels) {
  const int64_t lanes = winogradKernels().lanes;
  return divideUp(channels, lanes) * lanes;
}

}  // namespace

int64_t winograd2dBlockTiles(const Conv2dTiles& tiles) {
  const int64_t fitting = kBlockFloats / (tiles.frequencies() * toVectors(tiles.sourceChannels));
  return std::clamp(fitting, kLeastBlockTiles, kMostBlockTiles);
}

Winograd2d::Winograd2d(const Conv3dProblem& p, bool inputGradient, int64_t outputs)
    : problem_(p),
      inputGradient_(inputGradient),
      tiles_(p, inputGradient, outputs),
      products_(winogradKernels()),
      kernels_(winograd2dKernels(outputs)) {
  outputChannels_ = inputGradient ? p.C : p.K;
  sourceStride_ = toVectors(tiles_.sourceChannels);
  vectors_ = divideUp(outputChannels_, lanes());
  groups_ = divideUp(vectors_, kGroupPanels * kWinogradVectors);

  allTiles_ = tiles_.count();
  workers_ = ThreadPool::shared().size();
  // Blocks of equal size, and a whole number of them for every worker where there are few.
  blocks_ = divideUp(allTiles_, winograd2dBlockTiles(tiles_));
  shared_ = blocks_ < workers_;
  if (!shared_ && blocks_ < 4 * workers_) blocks_ = divideUp(blocks_, workers_) * workers_;
  blockTiles_ = divideUp(allTiles_, blocks_);
  blocks_ = divideUp(allTiles_, blockTiles_);
  workers_ = std::min(workers_, shared_ ? blocks_ * groups_ : blocks_);
}

struct Winograd2d::Room {
  float *bias, *zeroRow, *transformed, *products;
  size_t bytes;
};

Winograd2d::Room Winograd2d::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(groups_ * kGroupPanels * kWinogradVectors * lanes());
  room.zeroRow = cursor.floats(tiles_.sourceRow());
  room.transformed = cursor.floats((shared_ ? blocks_ : workers_) * sourceFloats());
  room.products = cursor.floats(workers_ * productFloats());
  room.bytes = cursor.used();
  return room;
}

size_t Winograd2d::workspace() const { return divide(nullptr).bytes; }

size_t Winograd2d::packedFloats() const {
  return static_cast<size_t>(vectors_ * frequencies() * tiles_.sourceChannels * lanes());
}

void Winograd2d::run(const float* source, const float* packed, const float* bias, float* output,
                     void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  const auto productsOf = [&](int64_t worker) { return room.products + worker * productFloats(); };
  if (!shared_) {
    forTasks(workers_, blocks_, [&](int64_t worker, int64_t block) {
      float* const transformed = room.transformed + worker * sourceFloats();
      transform(block, 0, blockTilesOf(block), source, room, transformed);
      for (int64_t group = 0; group < groups_; ++group) {
        multiply(block, group, transformed, packed, room, productsOf(worker), output);
      }
    });
    return;
  }
  const int64_t rows = divideUp(blockTiles_, tiles_.along(1));
  forTasks(workers_, blocks_ * rows, [&](int64_t, int64_t task) {
    const int64_t block = task / rows, first = task % rows * tiles_.along(1);
    const int64_t tiles = std::min(tiles_.along(1), blockTilesOf(block) - first);
    if (tiles > 0) {
      transform(block, first, tiles, source, room, room.transformed + block * sourceFloats());
    }
  });
  forTasks(workers_, blocks_ * groups_, [&](int64_t worker, int64_t task) {
    const int64_t block = task / groups_;
    multiply(block, task % groups_, room.transformed + block * sourceFloats(), packed, room,
             productsOf(worker), output);
  });
}

// Filters lie as [panel of kWinogradVectors][frequency][source channel][vector in panel][lane].
void Winograd2d::pack(const float* w, float* packed) const {
  constexpr int64_t kChunk = 16, kMostLanes = 16, kTaps = 9;
  const int64_t chunks = divideUp(tiles_.sourceChannels, kChunk);
  const int64_t filterFloats = kTaps * problem_.C;  // of one output channel of the problem
  parallelFor(vectors_ * chunks, [&](int64_t task) {
    const int64_t vector = task / chunks, firstReduced = task % chunks * kChunk;
    const int64_t panel = vector / kWinogradVectors * kWinogradVectors;
    const int64_t width = std::min<int64_t>(kWinogradVectors, vectors_ - panel) * lanes();
    WinogradFilter filter;
    filter.reduced = std::min(kChunk, tiles_.sourceChannels - firstReduced);
    filter.channels = std::min(lanes(), outputChannels_ - vector * lanes());
    filter.filters = packed + panel * frequencies() * tiles_.sourceChannels * lanes() + firstReduced * width +
                     vector % kWinogradVectors * lanes();
    filter.planeStride = 0;
    filter.frequencyStride = tiles_.sourceChannels * width;
    filter.filterReducedStride = width;
    alignas(64) float taps[kTaps * kChunk * kMostLanes];
    if (inputGradient_) {
      // Weights [K][9][C] already have the produced channels in lanes; the taps run backwards.
      filter.taps = w + firstReduced * filterFloats + (kTaps - 1) * problem_.C + vector * lanes();
      filter.tapReducedStride = filterFloats;
      filter.tapStride = -problem_.C;
    } else {
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        conv3dKernels().packTransposed(taps + tap * kChunk * lanes(), lanes(),
                                       w + vector * lanes() * filterFloats + tap * problem_.C + firstReduced,
                                       filterFloats, filter.channels, filter.reduced);
      }
      filter.taps = taps;
      filter.tapReducedStride = lanes();
      filter.tapStride = kChunk * lanes();
    }
    kernels_.filter(filter);
  });
}

void Winograd2d::transform(int64_t block, int64_t first, int64_t tiles, const float* source, const Room& room,
                           float* transformed) const {
  tiles_.transformSource(kernels_, block * blockTiles_ + first, tiles, source, room.zeroRow,
                         transformed + first * sourceStride_, sourceFrequency(), sourceStride_);
}

void Winograd2d::multiply(int64_t block, int64_t group, const float* transformed, const float* packed,
                          const Room& room, float* products, float* output) const {
  const int64_t tiles = blockTilesOf(block), firstVector = group * kGroupPanels * kWinogradVectors;
  const int64_t endVector = std::min(vectors_, firstVector + kGroupPanels * kWinogradVectors);
  const auto vectorsOf = [&](int64_t vector) {
    return std::min<int64_t>(kWinogradVectors, endVector - vector);
  };
  const auto panelOf = [&](int64_t vector) {
    return products + (vector - firstVector) / kWinogradVectors * frequencies() * productFrequency();
  };
  for (int64_t f = 0; f < frequencies(); ++f) {
    for (int64_t vector = firstVector; vector < endVector; vector += kWinogradVectors) {
      WinogradProduct product;
      product.frequencies = 1;
      product.tiles = transformed + f * sourceFrequency();
      product.tileFrequencyStride = 0;
      product.tileStride = sourceStride_;
      product.depth = tiles_.sourceChannels;
      product.vectors = vectorsOf(vector);
      product.filters = packed + (vector * frequencies() + f * product.vectors) * product.depth * lanes();
      product.products = panelOf(vector) + f * productFrequency();
      product.productFrequencyStride = 0;
      product.rows = tiles;
      products_.product(product);
    }
  }
  for (int64_t vector = firstVector; vector < endVector; vector += kWinogradVectors) {
    const auto visit = [&](int64_t done, int64_t slice, int64_t height, int64_t width, int64_t count) {
      Winograd2dOutput part;
      part.vectors = vectorsOf(vector);
      part.products = panelOf(vector) + done * part.vectors * lanes();
      part.frequencyStride = productFrequency();
      part.tiles = count;
      for (int64_t i = 0; i < tiles_.outputs; ++i) {
        const int64_t h = height + i * tiles_.step[0];
        const int64_t voxel = (slice * tiles_.outputExtent[0] + h) * tiles_.outputExtent[1] + width;
        const bool inside = h < tiles_.outputExtent[0];
        part.rows[i] = inside ? output + voxel * outputChannels_ + vector * lanes() : nullptr;
      }
      part.voxels = divideUp(tiles_.outputExtent[1] - width, tiles_.step[1]);
      part.voxelStride = tiles_.step[1] * outputChannels_;
      part.bias = room.bias + vector * lanes();
      part.channels = outputChannels_ - vector * lanes();
      kernels_.output(part);
    };
    tiles_.forEachRow(block * blockTiles_, tiles, visit);
  }
}

}  // namespace voxgrad::cpu
