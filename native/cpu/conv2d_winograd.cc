#include "conv2d_winograd.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kBlockFloats = 256 * 1024;
constexpr int64_t kMostBlockTiles = 48, kLeastBlockTiles = 24;
// Where filters are transformed last: tiles that share a transformation, and source channels of one.
constexpr int64_t kMostSharingTiles = 64, kFilterDepth = 128;
constexpr int64_t kTaps = 9;

// One line apart from a power of two: the frequencies of a filter must not share a cache set.
int64_t apart(int64_t floats) { return floats + 16; }

int64_t toVectors(int64_t channels) {
  const int64_t lanes = winogradKernels().lanes;
  return divideUp(channels, lanes) * lanes;
}

}  // namespace

int64_t winograd2dBlockTiles(const Conv2dTiles& tiles, bool filtersLast) {
  if (filtersLast) return kMostSharingTiles;
  const int64_t fitting = kBlockFloats / (tiles.frequencies() * toVectors(tiles.sourceChannels));
  return std::clamp(fitting, kLeastBlockTiles, kMostBlockTiles);
}

bool winograd2dFiltersLast(const Conv2dTiles& tiles, int64_t outputChannels) {
  const int64_t filters = tiles.frequencies() * tiles.sourceChannels * outputChannels;
  return filters > kBlockFloats && tiles.count() <= outputChannels;
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
  panels_ = divideUp(vectors_, kWinogradVectors);

  allTiles_ = tiles_.count();
  filtersLast_ = winograd2dFiltersLast(tiles_, outputChannels_);
  workers_ = ThreadPool::shared().size();
  // Blocks of equal size, and a whole number of them for every worker where there are few.
  blocks_ = divideUp(allTiles_, winograd2dBlockTiles(tiles_, filtersLast_));
  if (!filtersLast_ && blocks_ < 4 * workers_) blocks_ = divideUp(blocks_, workers_) * workers_;
  blockTiles_ = divideUp(allTiles_, blocks_);
  blocks_ = divideUp(allTiles_, blockTiles_);
  workers_ = std::min(workers_, filtersLast_ ? blocks_ * panels_ : blocks_);
}

int64_t Winograd2d::scratchFloats() const {
  const int64_t filters = frequencies() * apart(kFilterDepth * kWinogradVectors * lanes());
  return filtersLast_ ? productFloats() + filters : sourceFloats() + productFloats();
}

struct Winograd2d::Room {
  float *bias, *zeroRow, *transformed, *scratch;
  size_t bytes;
};

Winograd2d::Room Winograd2d::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(vectors_ * lanes());
  room.zeroRow = cursor.floats(tiles_.sourceRow());
  room.transformed = cursor.floats(filtersLast_ ? blocks_ * sourceFloats() : 0);
  room.scratch = cursor.floats(workers_ * scratchFloats());
  room.bytes = cursor.used();
  return room;
}

size_t Winograd2d::workspace() const { return divide(nullptr).bytes; }

size_t Winograd2d::packedFloats() const {
  const int64_t each = filtersLast_ ? kTaps : frequencies();
  return static_cast<size_t>(vectors_ * each * tiles_.sourceChannels * lanes());
}

void Winograd2d::run(const float* source, const float* packed, const float* bias, float* output,
                     void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  const auto scratchOf = [&](int64_t worker) { return room.scratch + worker * scratchFloats(); };
  if (!filtersLast_) {
    forTasks(workers_, blocks_, [&](int64_t worker, int64_t block) {
      float* const transformed = scratchOf(worker);
      transform(block, 0, blockTilesOf(block), source, room, transformed);
      multiply(block, transformed, packed, room, transformed + sourceFloats(), output);
    });
    return;
  }
  const int64_t run = tiles_.along(1), runs = divideUp(blockTiles_, run);
  parallelFor(blocks_ * runs, [&](int64_t task) {
    const int64_t block = task / runs, first = task % runs * run;
    const int64_t tiles = std::min(run, blockTilesOf(block) - first);
    if (tiles > 0) transform(block, first, tiles, source, room, room.transformed + block * sourceFloats());
  });
  forTasks(workers_, blocks_ * panels_, [&](int64_t worker, int64_t task) {
    const int64_t block = task % blocks_;
    multiplyPanel(block, task / blocks_, room.transformed + block * sourceFloats(), packed, room,
                  scratchOf(worker), output);
  });
}

// Packed weights are taps, [vector][source channel][tap][lane], where tasks transform the filters; else
// filters, [panel of kWinogradVectors][frequency][source channel][vector in panel][lane]. Of these some
// source channels are transformed at a time and copied frequency by frequency: one channel would write a line
// to every frequency, all of them far apart.
void Winograd2d::pack(const float* w, float* packed) const {
  constexpr int64_t kChunk = 16, kMostLanes = 16;
  const int64_t depth = tiles_.sourceChannels, chunks = divideUp(depth, kChunk);
  parallelFor(panels_ * chunks, [&](int64_t task) {
    const int64_t firstVector = task / chunks * kWinogradVectors, first = task % chunks * kChunk;
    const int64_t vectors = panelVectors(firstVector);
    const int64_t count = std::min(kChunk, depth - first), width = vectors * lanes();
    float* const chunk = threadScratch<float>(static_cast<size_t>(frequencies() * apart(count * width)));
    for (int64_t i = 0; i < vectors; ++i) {
      const int64_t vector = firstVector + i;
      if (filtersLast_) {
        packTaps(w, vector, first, count, packed + (vector * depth + first) * kTaps * lanes());
        continue;
      }
      alignas(64) float taps[kChunk * kTaps * kMostLanes];
      packTaps(w, vector, first, count, taps);
      transformFilters(taps, count, width, chunk + i * lanes());
    }
    float* const panel = packed + firstVector * frequencies() * depth * lanes() + first * width;
    for (int64_t f = 0; !filtersLast_ && f < frequencies(); ++f) {
      std::copy_n(chunk + f * apart(count * width), count * width, panel + f * depth * width);
    }
  });
}

// Taps [count][9][lanes] of one vector of output channels and the source channels from `first` on.
void Winograd2d::packTaps(const float* w, int64_t vector, int64_t first, int64_t count, float* taps) const {
  const int64_t filterFloats = kTaps * problem_.C;  // of one output channel of the problem
  const int64_t channels = std::min(lanes(), outputChannels_ - vector * lanes());
  for (int64_t tap = 0; tap < kTaps; ++tap) {
    if (!inputGradient_) {
      conv3dKernels().packTransposed(taps + tap * lanes(), kTaps * lanes(),
                                     w + vector * lanes() * filterFloats + tap * problem_.C + first,
                                     filterFloats, channels, count);
      continue;
    }
    // Weights [K][9][C] already have the produced channels side by side; the taps run backwards.
    const float* const from = w + first * filterFloats + (kTaps - 1 - tap) * problem_.C + vector * lanes();
    for (int64_t c = 0; c < count; ++c) {
      float* const to = taps + (c * kTaps + tap) * lanes();
      std::fill(std::copy_n(from + c * filterFloats, channels, to), to + lanes(), 0.0f);
    }
  }
}

// Filters [frequencies][count][width], frequencies set apart, of what packTaps packs.
void Winograd2d::transformFilters(const float* taps, int64_t count, int64_t width, float* filters) const {
  WinogradFilter filter;
  filter.taps = taps;
  filter.tapReducedStride = kTaps * lanes();
  filter.tapStride = lanes();
  filter.reduced = count;
  filter.channels = lanes();
  filter.filters = filters;
  filter.planeStride = 0;
  filter.frequencyStride = apart(count * width);
  filter.filterReducedStride = width;
  kernels_.filter(filter);
}

void Winograd2d::transform(int64_t block, int64_t first, int64_t tiles, const float* source, const Room& room,
                           float* transformed) const {
  tiles_.transformSource(kernels_, block * blockTiles_ + first, tiles, source, room.zeroRow,
                         transformed + first * sourceStride_, sourceFrequency(), kWinogradVectors * lanes(),
                         sourceStride_);
}

void Winograd2d::multiply(int64_t block, const float* transformed, const float* filters, const Room& room,
                          float* products, float* output) const {
  for (int64_t vector = 0; vector < vectors_; vector += kWinogradVectors) {
    WinogradProduct product;
    product.frequencies = frequencies();
    product.tiles = transformed;
    product.tileFrequencyStride = sourceFrequency();
    product.tileStride = sourceStride_;
    product.filters = filters + vector * frequencies() * tiles_.sourceChannels * lanes();
    product.depth = tiles_.sourceChannels;
    product.vectors = panelVectors(vector);
    product.filterFrequencyStride = product.depth * product.vectors * lanes();
    product.add = false;
    product.products = products;
    product.productFrequencyStride = productFrequency();
    product.rows = blockTilesOf(block);
    products_.product(product);
    store(block, vector, products, room, output);
  }
}

void Winograd2d::multiplyPanel(int64_t block, int64_t panel, const float* transformed, const float* taps,
                               const Room& room, float* scratch, float* output) const {
  float* const filters = scratch + productFloats();
  const int64_t vector = panel * kWinogradVectors, depth = tiles_.sourceChannels;
  WinogradProduct product;
  product.frequencies = frequencies();
  product.tileFrequencyStride = sourceFrequency();
  product.tileStride = sourceStride_;
  product.filters = filters;
  product.vectors = panelVectors(vector);
  product.products = scratch;
  product.productFrequencyStride = productFrequency();
  product.rows = blockTilesOf(block);
  for (int64_t first = 0; first < depth; first += kFilterDepth) {
    product.depth = std::min(kFilterDepth, depth - first);
    product.filterFrequencyStride = apart(product.depth * product.vectors * lanes());
    for (int64_t i = 0; i < product.vectors; ++i) {
      transformFilters(taps + ((vector + i) * depth + first) * kTaps * lanes(), product.depth,
                       product.vectors * lanes(), filters + i * lanes());
    }
    product.tiles = transformed + first;
    product.add = first > 0;
    products_.product(product);
  }
  store(block, vector, scratch, room, output);
}

// The outputs of a block's tiles for the panel that begins with `vector`.
void Winograd2d::store(int64_t block, int64_t vector, const float* products, const Room& room,
                       float* output) const {
  tiles_.storeOutput(kernels_, block * blockTiles_, blockTilesOf(block), products, productFrequency(),
                     panelVectors(vector), room.bias + vector * lanes(), outputChannels_, vector * lanes(),
                     output);
}

}  // namespace voxgrad::cpu
