#include "conv3d_winograd_slices.h"

#include "conv3d_task_sums.h"
#include "streams.h"
#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kTaskFloats = 288 * 1024;
constexpr int64_t kMostTaskTiles = 16, kStepTiles = 64;
// Filters are transformed last where there are more floats of them, and so many tiles in all.
constexpr int64_t kMostFilters = 1024 * 1024, kMostSharingTiles = 128;

}  // namespace

bool winogradSlicesFits(const Conv3dProblem& p) {
  return p.R == 3 && p.S == 3 && p.T == 3 && p.groups == 1 && p.stride[0] == 1 && p.stride[1] == 1 &&
         p.stride[2] == 1;
}

WinogradSlices::WinogradSlices(const Conv3dProblem& p, bool inputGradient, int64_t outputs, bool packedOnce)
    : problem_(p),
      tiles_(p, inputGradient, outputs),
      filters_(p, inputGradient, *tiles_.kernels, tiles_.frequencies()),
      products_(winogradKernels()),
      depth_(p, inputGradient),
      outputChannels_(inputGradient ? p.C : p.K),
      sourceStride_(divideUp(tiles_.sourceChannels, lanes()) * lanes()),
      vectors_(divideUp(outputChannels_, lanes())),
      filtersLast_(!packedOnce && transformsFiltersLast()),
      tasks_(tasks()) {
  if (filtersLast_) {
    stepSlices_ = tasks_.blockSlices;
    workers_ = std::min<int64_t>(ThreadPool::shared().size(), divideUp(vectors_, kWinogradVectors));
    return;
  }
  const int64_t most = std::max<int64_t>(1, kStepTiles / tasks_.blockTiles);
  stepSlices_ = divideUp(tasks_.blockSlices, divideUp(tasks_.blockSlices, most));
  workers_ = std::min<int64_t>(ThreadPool::shared().size(), tasks_.count());
}

bool WinogradSlices::transformsFiltersLast() const {
  const int64_t filters = frequencies() * kDepthTaps * tiles_.sourceChannels * vectors_ * lanes();
  return filters > kMostFilters && tiles_.count() <= kMostSharingTiles;
}

// Long runs of slices repeat few transformations; short ones share their filters with more tiles.
WinogradBlocks WinogradSlices::tasks() const {
  const int64_t samples = problem_.N * depth_.maps(), inSlice = tiles_.inSlice();
  if (filtersLast_) {
    return WinogradBlocks(samples, depth_.slices(), inSlice, inSlice,
                          (depth_.slices() + kDepthTaps - 1) * inSlice, kDepthTaps - 1);
  }
  const int64_t tiles = std::max(tiles_.along[1], divideUp(kStepTiles, depth_.slices()));
  return WinogradBlocks(samples, depth_.slices(), inSlice, std::min(kMostTaskTiles, tiles),
                        kTaskFloats / (frequencies() * sourceStride_), kDepthTaps - 1);
}

// Maps may have a slice less than the longest.
WinogradBlock WinogradSlices::taskOf(int64_t index) const {
  WinogradBlock task = tasks_.at(index);
  task.slices = std::clamp<int64_t>(depth_.map(task.sample).slices - task.firstSlice, 0, task.slices);
  return task;
}

struct WinogradSlices::Room {
  float *bias, *zeroRow, *transformed, *scratch;
  TaskSums sums;
  size_t bytes;
};

WinogradSlices::Room WinogradSlices::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const bias = cursor.floats(vectors_ * lanes());
  float* const zeroRow = cursor.floats(tiles_.sourceRow());
  float* const transformed = cursor.floats(filtersLast_ ? tasks_.count() * sourceFloats() : 0);
  float* const scratch = cursor.floats(workers_ * scratchFloats());
  const TaskSums sums(cursor, tasks_.count(), vectors_, lanes());
  return {bias, zeroRow, transformed, scratch, sums, cursor.used()};
}

size_t WinogradSlices::workspace() const { return divide(nullptr).bytes; }

void WinogradSlices::run(const ConvolutionSource& source, const float* packed, const float* bias,
                         float* output, void* workspace, float* moments) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  filtersLast_ ? runPanels(source, packed, room, output, moments != nullptr)
               : runTasks(source, packed, room, output, moments != nullptr);
  if (moments) room.sums.merge(outputChannels_, moments);
}

void WinogradSlices::runTasks(const ConvolutionSource& source, const float* filters, const Room& room,
                              float* output, bool sums) const {
  const int64_t depth = tiles_.sourceChannels;
  forTasks(workers_, tasks_.count(), [&](int64_t worker, int64_t index) {
    const WinogradBlock task = taskOf(index);
    float* const transformed = room.scratch + worker * scratchFloats();
    float* const products = transformed + sourceFloats();
    for (int64_t i = 0; i < task.slices + kDepthTaps - 1; ++i) transform(task, i, source, room, transformed);
    ChannelSums own{};
    for (int64_t vector = 0; vector < vectors_; vector += kWinogradVectors) {
      const Filters panel = {filters + vector * frequencies() * kDepthTaps * depth * lanes(),
                             kDepthTaps * depth * panelVectors(vector) * lanes(), 0, depth};
      if (sums) own = room.sums.begin(index, vector, panelVectors(vector));
      for (int64_t first = 0; first < task.slices; first += stepSlices_) {
        const int64_t slices = std::min(stepSlices_, task.slices - first);
        multiply(task, first, slices, vector, transformed, panel, products);
        store(task, first, slices, vector, products, room, output, sums ? &own : nullptr);
      }
    }
    if (sums) room.sums.end(index, own);
    if (streams(output)) settleStreams();
  });
}

// A task has the same voxels in every panel, so the first one says how many.
void WinogradSlices::runPanels(const ConvolutionSource& source, const float* taps, const Room& room,
                               float* output, bool sums) const {
  const int64_t places = tasks_.blockSlices + kDepthTaps - 1;
  parallelFor(tasks_.count() * places, [&](int64_t i) {
    const WinogradBlock task = taskOf(i / places);
    if (i % places < task.slices + kDepthTaps - 1)
      transform(task, i % places, source, room, room.transformed + i / places * sourceFloats());
  });
  forTasks(workers_, divideUp(vectors_, kWinogradVectors), [&](int64_t worker, int64_t panel) {
    const int64_t vector = panel * kWinogradVectors;
    float* const products = room.scratch + worker * scratchFloats();
    multiplyPanel(vector, taps, room, products + tasks_.count() * productFloats(), products);
    for (int64_t index = 0; index < tasks_.count(); ++index) {
      const WinogradBlock task = taskOf(index);
      ChannelSums own{};
      if (sums) own = room.sums.begin(index, vector, panelVectors(vector));
      store(task, 0, task.slices, vector, products + index * productFloats(), room, output,
            sums ? &own : nullptr);
      if (sums && panel == 0) room.sums.end(index, own);
    }
    if (streams(output)) settleStreams();
  });
}

// The products of all tasks for the panel that begins with `vector`.
void WinogradSlices::multiplyPanel(int64_t vector, const float* taps, const Room& room, float* filters,
                                   float* products) const {
  const int64_t depth = tiles_.sourceChannels, width = panelVectors(vector) * lanes();
  for (int64_t first = 0; first < depth; first += kFilterDepth) {
    const Filters chunk = {filters, filterFrequency(), first, std::min(kFilterDepth, depth - first)};
    for (int64_t i = 0; i < panelVectors(vector); ++i) {
      for (int64_t tap = 0; tap < kDepthTaps; ++tap) {
        const float* const from = taps + (((vector + i) * kDepthTaps + tap) * depth + first) *
                                             Winograd2dFilters::kSliceTaps * lanes();
        filters_.transform(from, chunk.depth, width, chunk.frequencyStride,
                           filters + tap * chunk.depth * width + i * lanes());
      }
    }
    for (int64_t index = 0; index < tasks_.count(); ++index) {
      const WinogradBlock task = taskOf(index);
      multiply(task, 0, task.slices, vector, room.transformed + index * sourceFloats(), chunk,
               products + index * productFloats());
    }
  }
}

// Slice `place` of the sources that the task's output slices read, left as it is in the padding.
void WinogradSlices::transform(const WinogradBlock& task, int64_t place, const ConvolutionSource& source,
                               const Room& room, float* transformed) const {
  const WinogradDepthMap map = depth_.map(task.sample);
  const int64_t at = task.firstSlice + place;
  if (task.slices == 0 || at < map.firstInside || at >= map.endInside) return;
  tiles_.transformSource((map.source + at * depth_.step) * tiles_.inSlice() + task.firstTile, task.tiles,
                         source, room.zeroRow,
                         {transformed + place * task.tiles * sourceStride_, sourceFrequency(),
                          kWinogradVectors * lanes(), sourceStride_});
}

// The products of output slices [first, first + slices) of the task for the panel that begins with `vector`.
void WinogradSlices::multiply(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                              const float* transformed, const Filters& filters, float* products) const {
  const WinogradDepthMap map = depth_.map(task.sample);
  const int64_t width = panelVectors(vector) * lanes(), end = first + slices;
  WinogradProduct product;
  product.frequencies = frequencies();
  product.tileFrequencyStride = sourceFrequency();
  product.tileStride = sourceStride_;
  product.tapStride = task.tiles * sourceStride_;
  product.depth = filters.depth;
  product.vectors = panelVectors(vector);
  product.filterFrequencyStride = filters.frequencyStride;
  product.add = filters.first > 0;
  product.productFrequencyStride = productFrequency();
  for (int64_t slice = first; slice < end;) {
    // Neighbouring slices with the same taps outside the padding.
    const int64_t tap = map.beginTap(task.firstSlice + slice),
                  endOfTaps = map.endTap(task.firstSlice + slice);
    int64_t next = slice + 1;
    while (next < end && map.beginTap(task.firstSlice + next) == tap &&
           map.endTap(task.firstSlice + next) == endOfTaps) {
      ++next;
    }
    product.taps = endOfTaps - tap;
    product.rows = (next - slice) * task.tiles;
    product.tiles = transformed + (slice + tap) * product.tapStride + filters.first;
    product.filters = filters.data + tap * product.depth * width;
    product.products = products + (slice - first) * task.tiles * width;
    if (product.taps > 0) {
      products_.product(product);
    } else if (!product.add) {
      for (int64_t f = 0; f < frequencies(); ++f)
        std::fill_n(product.products + f * productFrequency(), product.rows * width, 0.0f);
    }
    slice = next;
  }
}

bool WinogradSlices::streams(const float* output) const {
  const int64_t slices = problem_.N * depth_.maps() * depth_.slices();
  return storesPast(output, slices * tiles_.outputExtent[0] * tiles_.outputExtent[1] * outputChannels_,
                    {outputChannels_, tiles_.outputPitch});
}

void WinogradSlices::store(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                           const float* products, const Room& room, float* output, ChannelSums* sums) const {
  const WinogradDepthMap map = depth_.map(task.sample);
  for (int64_t slice = first; slice < first + slices; ++slice) {
    const int64_t place = map.output + (task.firstSlice + slice) * depth_.step;
    tiles_.storeOutput(place * tiles_.inSlice() + task.firstTile, task.tiles,
                       products + (slice - first) * task.tiles * panelVectors(vector) * lanes(),
                       productFrequency(), panelVectors(vector), room.bias + vector * lanes(),
                       outputChannels_, vector * lanes(), output, sums, streams(output));
  }
}

}  // namespace voxgrad::cpu
