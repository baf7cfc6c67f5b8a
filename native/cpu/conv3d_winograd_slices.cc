#include "conv3d_winograd_slices.h"

#include "conv3d_task_sums.h"
#include "streams.h"
#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kTaskFloats = 288 * 1024;
constexpr int64_t kMostTaskTiles = 16, kStepTiles = 64;

}  // namespace

bool winogradSlicesFits(const Conv3dProblem& p) {
  return p.R == 3 && p.S == 3 && p.T == 3 && p.groups == 1 && p.stride[0] == 1 && p.stride[1] == 1 &&
         p.stride[2] == 1;
}

WinogradSlices::WinogradSlices(const Conv3dProblem& p, bool inputGradient, int64_t outputs)
    : problem_(p),
      tiles_(p, inputGradient, outputs),
      filters_(p, inputGradient, *tiles_.kernels, tiles_.frequencies()),
      products_(winogradKernels()),
      depth_(p, inputGradient),
      outputChannels_(inputGradient ? p.C : p.K),
      sourceStride_(divideUp(tiles_.sourceChannels, lanes()) * lanes()),
      vectors_(divideUp(outputChannels_, lanes())),
      tasks_(tasks()) {
  const int64_t most = std::max<int64_t>(1, kStepTiles / tasks_.blockTiles);
  stepSlices_ = divideUp(tasks_.blockSlices, divideUp(tasks_.blockSlices, most));
  workers_ = std::min<int64_t>(ThreadPool::shared().size(), tasks_.count());
}

// Long runs of slices repeat few transformations; short ones share their filters with more tiles.
WinogradBlocks WinogradSlices::tasks() const {
  const int64_t tiles = std::max(tiles_.along[1], divideUp(kStepTiles, depth_.slices()));
  return WinogradBlocks(problem_.N * depth_.maps(), depth_.slices(), tiles_.inSlice(),
                        std::min(kMostTaskTiles, tiles), kTaskFloats / (frequencies() * sourceStride_),
                        kDepthTaps - 1);
}

// Maps may have a slice less than the longest.
WinogradBlock WinogradSlices::taskOf(int64_t index) const {
  WinogradBlock task = tasks_.at(index);
  task.slices = std::clamp<int64_t>(depth_.map(task.sample).slices - task.firstSlice, 0, task.slices);
  return task;
}

struct WinogradSlices::Room {
  float *bias, *zeroRow, *scratch;
  TaskSums sums;
  size_t bytes;
};

WinogradSlices::Room WinogradSlices::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const bias = cursor.floats(vectors_ * lanes());
  float* const zeroRow = cursor.floats(tiles_.sourceRow());
  float* const scratch = cursor.floats(workers_ * scratchFloats());
  const TaskSums sums(cursor, tasks_.count(), vectors_, lanes());
  return {bias, zeroRow, scratch, sums, cursor.used()};
}

size_t WinogradSlices::workspace() const { return divide(nullptr).bytes; }

void WinogradSlices::run(const ConvolutionSource& source, const float* packed, const float* bias,
                         float* output, void* workspace, float* moments) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  forTasks(workers_, tasks_.count(), [&](int64_t worker, int64_t index) {
    const WinogradBlock task = taskOf(index);
    float* const transformed = room.scratch + worker * scratchFloats();
    float* const products = transformed + sourceFloats();
    transform(task, source, room, transformed);
    ChannelSums sums{};
    for (int64_t vector = 0; vector < vectors_; vector += kWinogradVectors) {
      const float* const filters =
          packed + vector * frequencies() * kDepthTaps * tiles_.sourceChannels * lanes();
      if (moments) sums = room.sums.begin(index, vector, panelVectors(vector));
      for (int64_t first = 0; first < task.slices; first += stepSlices_) {
        const int64_t slices = std::min(stepSlices_, task.slices - first);
        multiply(task, first, slices, vector, transformed, filters, products);
        store(task, first, slices, vector, products, room, output, moments ? &sums : nullptr);
      }
    }
    if (moments) room.sums.end(index, sums);
    if (streams(output)) settleStreams();
  });
  if (moments) room.sums.merge(outputChannels_, moments);
}

// The source slices that the task's output slices read, in order, those in the padding left as they are.
void WinogradSlices::transform(const WinogradBlock& task, const ConvolutionSource& source, const Room& room,
                               float* transformed) const {
  if (task.slices == 0) return;
  const WinogradDepthMap map = depth_.map(task.sample);
  for (int64_t i = 0; i < task.slices + kDepthTaps - 1; ++i) {
    const int64_t place = task.firstSlice + i;
    if (place < map.firstInside || place >= map.endInside) continue;
    const int64_t first = (map.source + place * depth_.step) * tiles_.inSlice() + task.firstTile;
    tiles_.transformSource(first, task.tiles, source, room.zeroRow,
                           {transformed + i * task.tiles * sourceStride_, sourceFrequency(),
                            kWinogradVectors * lanes(), sourceStride_});
  }
}

// The products of output slices [first, first + slices) of the task for the panel that begins with `vector`.
void WinogradSlices::multiply(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                              const float* transformed, const float* filters, float* products) const {
  const WinogradDepthMap map = depth_.map(task.sample);
  const int64_t width = panelVectors(vector) * lanes(), end = first + slices;
  WinogradProduct product;
  product.frequencies = frequencies();
  product.tileFrequencyStride = sourceFrequency();
  product.tileStride = sourceStride_;
  product.tapStride = task.tiles * sourceStride_;
  product.depth = tiles_.sourceChannels;
  product.vectors = panelVectors(vector);
  product.filterFrequencyStride = kDepthTaps * product.depth * width;
  product.add = false;
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
    product.tiles = transformed + (slice + tap) * product.tapStride;
    product.filters = filters + tap * product.depth * width;
    product.products = products + (slice - first) * task.tiles * width;
    if (product.taps > 0) {
      products_.product(product);
    } else {
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
