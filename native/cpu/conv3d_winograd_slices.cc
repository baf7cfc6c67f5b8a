#include "conv3d_winograd_slices.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles that leave room for filters and products in a 2 MiB second-level cache.
constexpr int64_t kTaskFloats = 288 * 1024;
constexpr int64_t kMostTaskTiles = 16, kStepTiles = 64;

}  // namespace

WinogradSlices::WinogradSlices(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      tiles_(p, inputGradient, kOutputs),
      filters_(p, inputGradient, kOutputs),
      products_(winogradKernels()),
      kernels_(winograd2dKernels(kOutputs)),
      sourceSlices_(inputGradient ? p.Z : p.D),
      outputSlices_(inputGradient ? p.D : p.Z),
      depthPad_(inputGradient ? kDepthTaps - 1 - p.pad[0] : p.pad[0]),
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
  const int64_t tiles = std::max(tiles_.along(1), divideUp(kStepTiles, outputSlices_));
  return WinogradBlocks(problem_.N, outputSlices_, tiles_.inSlice(), std::min(kMostTaskTiles, tiles),
                        kTaskFloats / (frequencies() * sourceStride_), kDepthTaps - 1);
}

struct WinogradSlices::Room {
  float *bias, *zeroRow, *scratch, *shifts;
  double* totals;
  int64_t* voxels;  // of each task
  size_t bytes;
};

WinogradSlices::Room WinogradSlices::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(vectors_ * lanes());
  room.zeroRow = cursor.floats(tiles_.sourceRow());
  room.scratch = cursor.floats(workers_ * scratchFloats());
  const int64_t tasks = tasks_.count(), channels = vectors_ * lanes();
  room.shifts = cursor.floats(tasks * channels);
  room.totals = reinterpret_cast<double*>(cursor.floats(4 * tasks * channels));
  room.voxels = reinterpret_cast<int64_t*>(cursor.floats(2 * tasks));
  room.bytes = cursor.used();
  return room;
}

size_t WinogradSlices::workspace() const { return divide(nullptr).bytes; }

void WinogradSlices::run(const ConvolutionSource& source, const float* packed, const float* bias,
                         float* output, void* workspace, float* moments) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  forTasks(workers_, tasks_.count(), [&](int64_t worker, int64_t index) {
    const WinogradBlock task = tasks_.at(index);
    float* const transformed = room.scratch + worker * scratchFloats();
    float* const products = transformed + sourceFloats();
    transform(task, source, room, transformed);
    Winograd2dSums sums;
    for (int64_t vector = 0; vector < vectors_; vector += kWinogradVectors) {
      const float* const filters =
          packed + vector * frequencies() * kDepthTaps * tiles_.sourceChannels * lanes();
      const int64_t at = index * vectors_ + vector;
      sums = {room.totals + 2 * at * lanes(), room.shifts + at * lanes(), 0};
      if (moments) std::fill_n(sums.totals, 2 * panelVectors(vector) * lanes(), 0.0);
      for (int64_t first = 0; first < task.slices; first += stepSlices_) {
        const int64_t slices = std::min(stepSlices_, task.slices - first);
        multiply(task, first, slices, vector, transformed, filters, products);
        store(task, first, slices, vector, products, room, output, moments ? &sums : nullptr);
      }
    }
    room.voxels[index] = sums.voxels;
  });
  if (moments) mergeSums(room, moments);
}

// The source slices that the task's output slices read, in order, those in the padding left as they are.
void WinogradSlices::transform(const WinogradBlock& task, const ConvolutionSource& source, const Room& room,
                               float* transformed) const {
  for (int64_t i = 0; i < task.slices + kDepthTaps - 1; ++i) {
    const int64_t slice = task.firstSlice - depthPad_ + i;
    if (slice < 0 || slice >= sourceSlices_) continue;
    const int64_t first = (task.sample * sourceSlices_ + slice) * tiles_.inSlice() + task.firstTile;
    tiles_.transformSource(kernels_, first, task.tiles, source, room.zeroRow,
                           transformed + i * task.tiles * sourceStride_, sourceFrequency(),
                           kWinogradVectors * lanes(), sourceStride_);
  }
}

// The products of output slices [first, first + slices) of the task for the panel that begins with `vector`.
void WinogradSlices::multiply(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                              const float* transformed, const float* filters, float* products) const {
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
    const int64_t tap = beginTap(task.firstSlice + slice), endOfTaps = endTap(task.firstSlice + slice);
    int64_t next = slice + 1;
    while (next < end && beginTap(task.firstSlice + next) == tap &&
           endTap(task.firstSlice + next) == endOfTaps) {
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

void WinogradSlices::store(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                           const float* products, const Room& room, float* output,
                           Winograd2dSums* sums) const {
  for (int64_t slice = first; slice < first + slices; ++slice) {
    const int64_t place = task.sample * outputSlices_ + task.firstSlice + slice;
    tiles_.storeOutput(kernels_, place * tiles_.inSlice() + task.firstTile, task.tiles,
                       products + (slice - first) * task.tiles * panelVectors(vector) * lanes(),
                       productFrequency(), panelVectors(vector), room.bias + vector * lanes(),
                       outputChannels_, vector * lanes(), output, sums);
  }
}

// Joins the tasks' means and sums of squared differences from them (Chan, Golub and LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances", 1979), in order.
void WinogradSlices::mergeSums(const Room& room, float* moments) const {
  for (int64_t channel = 0; channel < outputChannels_; ++channel) {
    const int64_t vector = channel / lanes(), lane = channel % lanes();
    double count = 0, mean = 0, squares = 0;
    for (int64_t task = 0; task < tasks_.count(); ++task) {
      const int64_t at = task * vectors_ + vector;
      const double* const totals = room.totals + 2 * at * lanes() + lane;
      const double own = static_cast<double>(room.voxels[task]), shifted = totals[0] / own;
      const double apart = room.shifts[at * lanes() + lane] + shifted - mean, all = count + own;
      squares += totals[lanes()] - totals[0] * shifted + apart * apart * count * own / all;
      mean += apart * own / all;
      count = all;
    }
    const double variance = squares / count;
    moments[2 * channel] = static_cast<float>(mean);
    // A comparison that is false for NaN: what is not finite in the output shows.
    moments[2 * channel + 1] = variance < 0 ? 0.0f : static_cast<float>(variance);
  }
}

}  // namespace voxgrad::cpu
