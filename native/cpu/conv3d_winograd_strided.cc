#include "conv3d_winograd_strided.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Floats of transformed filters of all frequencies, and of transformed tiles beside filters and products,
// that stay in a 2 MiB second-level cache.
constexpr int64_t kCachedFilters = 256 * 1024, kBlockFloats = 256 * 1024;
constexpr int64_t kMostBlockTiles = 16;
// Tiles of all slices of a block that share the filters, the fewest for which transforming those pays, and
// the fewest where they are transformed beforehand.
constexpr int64_t kBlockRows = 64, kLeastBlockRows = 32, kLeastPackedRows = 8;
// Source channels of a unit of filters where the source has no phases.
constexpr int64_t kUnitChannels = 128;

int64_t blockRows(int64_t rows, int64_t workers, int64_t least) {
  return std::clamp(divideUp(rows, workers), least, kBlockRows);
}

}  // namespace

bool winogradStridedFits(const Conv3dProblem& p) {
  return (p.R == 1 || p.R == 3) && p.S == 3 && p.T == 3 && p.groups == 1 && p.stride[0] <= 2 &&
         p.stride[1] == 2 && p.stride[2] == 2 && p.dilation[0] == 1 && p.dilation[1] == 1 &&
         p.dilation[2] == 1;
}

WinogradStrided::WinogradStrided(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      tiles_(p, inputGradient),
      taps_(p, inputGradient),
      products_(winogradKernels()),
      table_(winograd2dTable()),
      depth_(p, inputGradient),
      outputChannels_(inputGradient ? p.C : p.K),
      vectors_(divideUp(outputChannels_, lanes())),
      panels_(divideUp(vectors_, kWinogradVectors)),
      chunk_(inputGradient ? std::min(p.K, kUnitChannels) : tiles_.chunk()),
      filtersLast_(filtersLast(p)),
      blocks_(blocks(ThreadPool::shared().size())) {
  const int64_t workers = ThreadPool::shared().size();
  shared_ = filtersLast_ && blocks_.count() < workers;
  workers_ = std::min(workers, blocks_.count() * (shared_ ? tasksOfBlock() : 1));
}

int64_t WinogradStrided::rows(const Conv3dProblem& p) {
  return p.N * p.Z * divideUp(p.P, WinogradStridedTiles::kOutputs) *
         divideUp(p.Q, WinogradStridedTiles::kOutputs);
}

bool WinogradStrided::filtersLast(const Conv3dProblem& p) {
  return WinogradStridedTiles::kFrequencies * 4 * p.R * p.C * p.K > kCachedFilters && rows(p) <= p.K;
}

WinogradBlocks WinogradStrided::blocks(int64_t workers) const {
  const int64_t steps = depth_.steps();
  if (filtersLast_) {
    const int64_t rows = blockRows(steps * tiles_.count(), workers, kLeastBlockRows);
    return WinogradBlocks(1, steps, tiles_.count(), std::max<int64_t>(1, rows / steps), rows, 0);
  }
  const int64_t rows = blockRows(steps * tiles_.count(), workers, kLeastPackedRows);
  const int64_t tiles = std::max(tiles_.along(1), divideUp(rows, steps));
  const int64_t room =
      kBlockFloats / (WinogradStridedTiles::kFrequencies * tiles_.chunks() * tiles_.tileFloats());
  return WinogradBlocks(1, steps, tiles_.count(), std::min(kMostBlockTiles, tiles), room / depth_.sliceStep,
                        depth_.reach - 1);
}

struct WinogradStrided::Room {
  float *bias, *zeroRow, *transformed, *scratch;
  size_t bytes;
};

WinogradStrided::Room WinogradStrided::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(vectors_ * lanes());
  room.zeroRow = cursor.floats(tiles_.sourceRow());
  room.transformed = cursor.floats(shared_ ? blocks_.count() * sourceFloats() : 0);
  room.scratch = cursor.floats(workers_ * scratchFloats());
  room.bytes = cursor.used();
  return room;
}

size_t WinogradStrided::workspace() const { return divide(nullptr).bytes; }

void WinogradStrided::run(const float* source, const float* packed, const float* bias, float* output,
                          void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  const auto multiplyTask = [&](const WinogradBlock& block, int64_t task, const float* transformed,
                                float* scratch) {
    multiply(block, task / panels_, task % panels_, transformed, packed, room, scratch, output);
  };
  if (!shared_) {
    forTasks(workers_, blocks_.count(), [&](int64_t worker, int64_t index) {
      const WinogradBlock block = blocks_.at(index);
      float* const scratch = room.scratch + worker * scratchFloats();
      float* const transformed = scratch + scratchFloats() - sourceFloats();
      for (int64_t i = 0; i < depth_.span(block.slices); ++i) transform(block, i, source, room, transformed);
      for (int64_t task = 0; task < tasksOfBlock(); ++task) multiplyTask(block, task, transformed, scratch);
    });
    return;
  }
  const int64_t span = depth_.span(blocks_.blockSlices);
  parallelFor(blocks_.count() * span, [&](int64_t task) {
    const WinogradBlock block = blocks_.at(task / span);
    if (task % span < depth_.span(block.slices))
      transform(block, task % span, source, room, room.transformed + task / span * sourceFloats());
  });
  forTasks(workers_, blocks_.count() * tasksOfBlock(), [&](int64_t worker, int64_t task) {
    const int64_t index = task % blocks_.count();
    multiplyTask(blocks_.at(index), task / blocks_.count(), room.transformed + index * sourceFloats(),
                 room.scratch + worker * scratchFloats());
  });
}

// Source slice `i` of those that the block reads.
void WinogradStrided::transform(const WinogradBlock& block, int64_t i, const float* source, const Room& room,
                                float* transformed) const {
  const int64_t slice = block.firstSlice * depth_.sliceStep + depth_.lowest + i;
  float* const to = transformed + depth_.slot(i, blocks_.blockSlices) * block.tiles * tiles_.tileFloats();
  tiles_.transformSlice(table_, source, depth_.sourceSlices, slice, block.firstTile, block.tiles,
                        room.zeroRow, to, sourceFrequency(), sourceChunk());
}

// The outputs of a block that belong to one phase along H and W, and one panel of channels.
void WinogradStrided::multiply(const WinogradBlock& block, int64_t phase, int64_t panel,
                               const float* transformed, const float* packed, const Room& room,
                               float* products, float* output) const {
  float* const filters = products + productFloats();
  for (int64_t d = 0; d < depth_.phases; ++d) {
    const GatherAxis& axis = depth_.axis[d];
    if (axis.taps == 0) std::fill_n(products, productFloats(), 0.0f);
    for (int64_t j = 0; j < axis.taps; ++j) {
      const int64_t slot = depth_.slot(axis.offset(j) - depth_.lowest, blocks_.blockSlices);
      const float* const tiles = transformed + slot * block.tiles * tiles_.tileFloats();
      for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
        const Unit unit{phase, panel, axis.tap(j), chunk};
        const float* const from = filtersLast_ ? tapsOf(unit, panel * kWinogradVectors, packed)
                                               : packed + numberOf(unit) * filterFloats();
        if (filtersLast_) transformFilters(unit, from, tapFloats(), filters);
        add(unit, tiles, filtersLast_ ? filters : from, j + chunk > 0, block.slices * block.tiles, products);
      }
    }
    store(block, axis, phase, panel, products, room, output);
  }
}

void WinogradStrided::add(const Unit& unit, const float* tiles, const float* filters, bool add, int64_t rows,
                          float* products) const {
  const int64_t first = unit.chunk * (inputGradient_ ? chunk_ : sourceChunk());
  WinogradProduct product;
  product.tileStride = tiles_.tileFloats();
  product.tapStride = chunk_;
  product.depth = chunkChannels(unit.chunk);
  product.vectors = panelVectors(unit.panel);
  product.rows = rows;
  product.add = add;
  const auto run = [&](const WinogradFrequencies& f) {
    product.frequencies = f.count;
    product.taps = f.phases;
    product.tileFrequencyStride = f.stride * sourceFrequency();
    product.filterFrequencyStride = f.stride * filterFrequency();
    product.productFrequencyStride = f.stride * productFrequency();
    product.tiles = tiles + f.first * sourceFrequency() + f.firstPhase * chunk_ + first;
    product.filters =
        filters + f.first * filterFrequency() + f.firstPhase * product.depth * product.vectors * lanes();
    product.products = products + f.first * productFrequency();
    products_.product(product);
  };
  if (!inputGradient_) {
    for (const WinogradFrequencies& f : kPhaseFrequencies) run(f);
    return;
  }
  const WinogradPhase phase = kWinogradPhases[unit.phase];
  for (int64_t h = 0; h < 5 - phase.taps[0]; ++h) run({5 * h, 1, 5 - phase.taps[1], 0, 1});
}

void WinogradStrided::store(const WinogradBlock& block, const GatherAxis& axis, int64_t phase, int64_t panel,
                            const float* products, const Room& room, float* output) const {
  const int64_t vectors = panelVectors(panel), channel = panel * kWinogradVectors * lanes();
  const int64_t sliceFloats = tiles_.outputExtent[0] * tiles_.outputExtent[1] * outputChannels_;
  const WinogradPhase stored = inputGradient_ ? kWinogradPhases[phase] : WinogradPhase{{0, 0}};
  for (int64_t i = 0; i < std::min(block.slices, axis.count - block.firstSlice); ++i) {
    const int64_t slice = axis.first + (block.firstSlice + i) * axis.outputStep;
    tiles_.storeOutput(table_, stored, block.firstTile, block.tiles,
                       products + i * block.tiles * vectors * lanes(), productFrequency(), vectors,
                       room.bias + channel, outputChannels_, channel, output + slice * sliceFloats,
                       depth_.outputSlices * sliceFloats);
  }
}

size_t WinogradStrided::packedFloats() const {
  const int64_t units = tiles_.outputPhases() * panels_ * problem_.R * chunks();
  return static_cast<size_t>(filtersLast_ ? vectors_ * tapFloats() : units * filterFloats());
}

// Packed weights are taps where tasks transform the filters; else units of filters.
void WinogradStrided::pack(const float* w, float* packed) const {
  const int64_t taps = problem_.R, perPanel = taps * chunks();
  if (filtersLast_) {
    parallelFor(vectors_ * perPanel, [&](int64_t task) {
      const Unit unit{0, 0, task % perPanel / chunks(), task % chunks()};
      const int64_t vector = task / perPanel;
      packTaps(w, unit, vector, tapsOf(unit, vector, packed));
    });
    return;
  }
  parallelFor(panels_ * perPanel, [&](int64_t task) {
    Unit unit{0, task / perPanel, task % perPanel / chunks(), task % chunks()};
    const int64_t floats = chunk_ * Winograd2dTaps::kSliceTaps * lanes();
    float* const taps = threadScratch<float>(static_cast<size_t>(kWinogradVectors * floats));
    for (int64_t i = 0; i < panelVectors(unit.panel); ++i)
      packTaps(w, unit, unit.panel * kWinogradVectors + i, taps + i * floats);
    for (unit.phase = 0; unit.phase < tiles_.outputPhases(); ++unit.phase)
      transformFilters(unit, taps, floats, packed + numberOf(unit) * filterFloats());
  });
}

// The taps of a unit for one vector of output channels.
void WinogradStrided::packTaps(const float* w, const Unit& unit, int64_t vector, float* taps) const {
  const int64_t depthTap = inputGradient_ ? problem_.R - 1 - unit.depthTap : unit.depthTap;
  taps_.packTaps(w, vector, unit.chunk * chunk_, chunkChannels(unit.chunk), depthTap, taps);
}

// The filters of a unit, from the taps of its vectors of output channels, vectorFloats apart.
void WinogradStrided::transformFilters(const Unit& unit, const float* taps, int64_t vectorFloats,
                                       float* filters) const {
  const int64_t width = panelVectors(unit.panel) * lanes();
  WinogradFilter filter;
  filter.tapReducedStride = Winograd2dTaps::kSliceTaps * lanes();
  filter.tapStride = lanes();
  filter.reduced = chunkChannels(unit.chunk);
  filter.channels = lanes();
  filter.planeStride = 0;
  filter.frequencyStride = filterFrequency();
  filter.filterReducedStride = width;
  for (int64_t i = 0; i < panelVectors(unit.panel); ++i) {
    filter.taps = taps + i * vectorFloats;
    for (int64_t s = 0; s < tiles_.sourcePhases(); ++s) {
      const WinogradPhase phase = kWinogradPhases[inputGradient_ ? unit.phase : s];
      filter.filters = filters + s * filter.reduced * width + i * lanes();
      table_.phases[phase.taps[0]][phase.taps[1]].filter(filter);
    }
  }
}

}  // namespace voxgrad::cpu
