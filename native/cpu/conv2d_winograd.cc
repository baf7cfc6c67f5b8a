#include "conv2d_winograd.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kBlockFloats = 256 * 1024;
constexpr int64_t kMostBlockTiles = 48, kLeastBlockTiles = 24;
// Where filters are transformed last: products of tiles that share a transformation, and source channels of
// one.
constexpr int64_t kSharingProducts = 36 * 64, kMostSharingTiles = 256, kFilterDepth = 128;

int64_t toVectors(int64_t channels) {
  const int64_t lanes = winogradKernels().lanes;
  return divideUp(channels, lanes) * lanes;
}

}  // namespace

int64_t winograd2dBlockTiles(const Conv2dTiles& tiles, bool filtersLast) {
  if (filtersLast) return std::min(kMostSharingTiles, kSharingProducts / tiles.frequencies());
  const int64_t fitting = kBlockFloats / (tiles.frequencies() * toVectors(tiles.sourceChannels));
  return std::clamp(fitting, kLeastBlockTiles, kMostBlockTiles);
}

bool winograd2dFiltersLast(const Conv2dTiles& tiles, int64_t outputChannels) {
  const int64_t filters = tiles.frequencies() * tiles.sourceChannels * outputChannels;
  return filters > kBlockFloats && tiles.count() <= outputChannels;
}

Winograd2d::Winograd2d(const Conv3dProblem& p, bool inputGradient, int64_t outputs)
    : Winograd2d(p, inputGradient, Conv2dTiles(p, inputGradient, outputs),
                 winograd2dFiltersLast(Conv2dTiles(p, inputGradient, outputs), inputGradient ? p.C : p.K)) {}

Winograd2d::Winograd2d(const Conv3dProblem& p, bool inputGradient, const Conv2dTiles& tiles, bool filtersLast)
    : problem_(p),
      tiles_(tiles),
      filters_(p, inputGradient, *tiles.kernels, tiles.frequencies()),
      products_(winogradKernels()),
      filtersLast_(filtersLast) {
  outputChannels_ = inputGradient ? p.C : p.K;
  sourceStride_ = toVectors(tiles_.sourceChannels);
  vectors_ = divideUp(outputChannels_, lanes());
  panels_ = divideUp(vectors_, kWinogradVectors);

  allTiles_ = tiles_.count();
  workers_ = ThreadPool::shared().size();
  // Blocks of equal size, and a whole number of them for every worker where there are few.
  blocks_ = divideUp(allTiles_, winograd2dBlockTiles(tiles_, filtersLast_));
  if (filtersLast_)
    blocks_ = std::max(blocks_, divideUp(workers_, panels_));
  else if (blocks_ < 4 * workers_)
    blocks_ = divideUp(blocks_, workers_) * workers_;
  blockTiles_ = divideUp(allTiles_, blocks_);
  blocks_ = divideUp(allTiles_, blockTiles_);
  workers_ = std::min(workers_, filtersLast_ ? blocks_ * panels_ : blocks_);
}

int64_t Winograd2d::scratchFloats() const {
  const int64_t filters =
      frequencies() * Winograd2dFilters::frequencyFloats(kFilterDepth, kWinogradVectors * lanes());
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
  return filtersLast_ ? filters_.allTaps() : filters_.packedFloats();
}

void Winograd2d::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
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
  const int64_t run = tiles_.along[1], runs = divideUp(blockTiles_, run);
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

// Packed weights are taps where tasks transform the filters.
void Winograd2d::pack(const float* w, float* packed) const {
  filtersLast_ ? filters_.packAllTaps(w, packed) : filters_.pack(w, packed);
}

void Winograd2d::transform(int64_t block, int64_t first, int64_t tiles, const ConvolutionSource& source,
                           const Room& room, float* transformed) const {
  tiles_.transformSource(
      block * blockTiles_ + first, tiles, source, room.zeroRow,
      {transformed + first * sourceStride_, sourceFrequency(), kWinogradVectors * lanes(), sourceStride_});
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
    product.filterFrequencyStride =
        Winograd2dFilters::frequencyFloats(product.depth, product.vectors * lanes());
    for (int64_t i = 0; i < product.vectors; ++i) {
      filters_.transform(taps + ((vector + i) * depth + first) * Winograd2dFilters::kSliceTaps * lanes(),
                         product.depth, product.vectors * lanes(), product.filterFrequencyStride,
                         filters + i * lanes());
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
  tiles_.storeOutput(block * blockTiles_, blockTilesOf(block), products, productFrequency(),
                     panelVectors(vector), room.bias + vector * lanes(), outputChannels_, vector * lanes(),
                     output);
}

}  // namespace voxgrad::cpu
