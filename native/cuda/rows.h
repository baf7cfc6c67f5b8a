// Rows of few channels, such as the classes of voxels: a thread holds up to 16 channels of a row in
// registers, a warp shares a row of more.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda.h"
#include "floats.h"
#include "pack.h"
#include "sums.h"

namespace voxgrad::cuda {

constexpr int rowThreads = 256;

// What a thread has of rows: `each` channels, which are fewer in rows that are not `exact`. All threads of a
// warp have to load and store together, those beyond the last row doing as the one before them does. `wide`
// instructions move a row at once.
template <int lanes_, int each_, bool exact_, bool wide = (exact_ && each_ % 2 == 0)>
struct Row {
  static constexpr int lanes = lanes_, each = each_;
  static constexpr bool exact = exact_;
  // Rows that a warp takes at once.
  static constexpr int rowsOfWarp = warpSize / lanes;
  // Rows that no wide instructions move go through shared memory, so that a warp reads and writes whole
  // lines.
  static constexpr bool staged = lanes == 1 && !wide;
  static constexpr int stage = warpSize * each;
  static constexpr size_t sharedBytes = staged ? rowThreads / warpSize * stage * sizeof(float) : 0;
  using Values = float[each];

  int channels, lane;
  // The sample that the rows belong to.
  int64_t sample;
  // The rows of the warp, and which of them is the thread's.
  int64_t firstRow = 0;
  int rows = 0, place;

  __device__ Row(int channels, int64_t sample)
      : channels(channels),
        lane(lanes == 1 ? 0 : static_cast<int>(threadIdx.x) % lanes),
        sample(sample),
        place(static_cast<int>(threadIdx.x) % warpSize / lanes) {}
  __device__ int channel(int i) const { return i * lanes + lane; }
  __device__ bool has(int i) const { return exact || channel(i) < channels; }
  // Whether there is a row for this thread, and whether it is the one that speaks for the row.
  __device__ bool valid() const { return place < rows; }
  __device__ bool first() const { return valid() && lane == 0; }

  // Calls f(row) for rows from `begin` to `end`, each warp going on by `step` rows.
  template <class F>
  __device__ void forEach(int64_t begin, int64_t end, int64_t step, F f) {
    for (firstRow = begin + threadIdx.x / warpSize * rowsOfWarp; firstRow < end; firstRow += step) {
      rows = end - firstRow < rowsOfWarp ? static_cast<int>(end - firstRow) : rowsOfWarp;
      f(firstRow + (place < rows ? place : rows - 1));
    }
  }

  // The row of x, and `rest` for channels that it has not.
  __device__ void load(const float* x, int64_t row, float rest, Values& values) const {
    if constexpr (staged) {
      x += firstRow * channels + laneOfWarp();
      const int left = rows * channels - laneOfWarp();
      for (int k = 0; k < each; k++) values[k] = k * warpSize < left ? x[k * warpSize] : 0.0f;
      float* const shared = staging();
      __syncwarp();
      for (int k = 0; k < each; k++) shared[k * warpSize + laneOfWarp()] = values[k];
      __syncwarp();
      const float* const own = shared + static_cast<int>(row - firstRow) * channels;
      for (int i = 0; i < each; i++) values[i] = has(i) ? own[i] : rest;
    } else if constexpr (exact) {
      const auto read = alignedFor<const Floats<each>>(x)[row];
      for (int i = 0; i < each; i++) values[i] = read.of[i];
    } else {
      x += row * channels;
      for (int i = 0; i < each; i++) values[i] = has(i) ? x[channel(i)] : rest;
    }
  }
  __device__ void store(const Values& values, int64_t row, float* y) const {
    if constexpr (staged) {
      float* const shared = staging();
      float* const own = shared + place * channels;
      __syncwarp();
      for (int i = 0; i < each; i++)
        if (has(i)) own[i] = values[i];
      __syncwarp();
      y += firstRow * channels + laneOfWarp();
      const int left = rows * channels - laneOfWarp();
      for (int k = 0; k < each; k++)
        if (k * warpSize < left) y[k * warpSize] = shared[k * warpSize + laneOfWarp()];
    } else if constexpr (exact) {
      Floats<each> written;
      for (int i = 0; i < each; i++) written.of[i] = values[i];
      if (valid()) alignedFor<Floats<each>>(y)[row] = written;
    } else {
      y += row * channels;
      for (int i = 0; i < each; i++)
        if (has(i)) y[channel(i)] = values[i];
    }
  }

  // Over all channels of a row; every thread that shares it gets the result, and has to ask.
  __device__ float sum(float own) const {
    for (int bit = lanes / 2; bit > 0; bit /= 2) own += __shfl_xor_sync(fullWarp, own, bit);
    return own;
  }
  __device__ float sum(const Values& values) const {
    float own = values[0];
    for (int i = 1; i < each; i++) own += values[i];
    return sum(own);
  }
  __device__ float max(const Values& values) const {
    float most = values[0];
    for (int i = 1; i < each; i++) most = values[i] > most ? values[i] : most;
    for (int bit = lanes / 2; bit > 0; bit /= 2) {
      const float other = __shfl_xor_sync(fullWarp, most, bit);
      most = other > most ? other : most;
    }
    return most;
  }
  __device__ float dot(const Values& a, const Values& b) const {
    Values products;
    for (int i = 0; i < each; i++) products[i] = a[i] * b[i];
    return sum(products);
  }
  struct Totals {
    float largest, total, picked;
  };
  // Row `row` of x as e^(factor (x - largest)), and their sum: NaN where the row has one. `picked` is x -
  // largest of channel `wanted` in the thread that holds it, 0 in others.
  __device__ Totals exponentials(const float* x, int64_t row, float factor, int wanted,
                                 Values& values) const {
    load(x, row, -INFINITY, values);
    return exponentials(factor, wanted, values);
  }
  // The same of a row that is in `values`, channels that it has not being -INFINITY.
  __device__ Totals exponentials(float factor, int wanted, Values& values) const {
    const float largest = max(values);
    float picked = 0;
    for (int i = 0; i < each; i++) {
      const float below = values[i] - largest;
      if (channel(i) == wanted) picked = below;
      values[i] = has(i) ? expf(factor * below) : 0.0f;
    }
    return {largest, sum(values), picked};
  }
  // Row `row` of softmax(factor x).
  __device__ void softmax(const float* x, int64_t row, float factor, Values& values) const {
    const float scale = 1.0f / exponentials(x, row, factor, -1, values).total;
    for (int i = 0; i < each; i++) values[i] *= scale;
  }
  // The gradient of a softmax p in its logits, from the one in p and in place of it.
  __device__ void backward(const Values& p, float factor, Values& dp) const {
    const float mean = dot(p, dp);
    for (int i = 0; i < each; i++) dp[i] = factor * p[i] * (dp[i] - mean);
  }

 private:
  __device__ static int laneOfWarp() { return static_cast<int>(threadIdx.x) % warpSize; }
  __device__ static float* staging() { return sharedMemory<float>() + threadIdx.x / warpSize * stage; }
};

// Names a kind of Row where there is none yet.
template <class R>
struct RowKind {
  using type = R;
};

// Whether wide instructions reach the rows of all tensors of a step.
inline bool wholeRows(const Step& step) {
  const auto isWhole = [](const Tensor& tensor) { return addressOf(tensor.data) % 16 == 0; };
  return isWhole(step.output) && std::all_of(step.inputs.begin(), step.inputs.end(), isWhole);
}

// Calls f with the RowKind that suits a number of channels from 1 to 256, and rows that are `whole` or not:
// the lanes, and with them the order of sums, are the same.
template <class F>
void byChannels(int64_t channels, bool whole, F f) {
  if (channels == 2 && whole) return f(RowKind<Row<1, 2, true>>{});
  if (channels == 3) return f(RowKind<Row<1, 3, true>>{});
  if (channels == 4 && whole) return f(RowKind<Row<1, 4, true>>{});
  if (channels < 8) return f(RowKind<Row<1, 7, false>>{});
  if (channels == 8 && whole) return f(RowKind<Row<1, 8, true>>{});
  if (channels < 16) return f(RowKind<Row<1, 15, false>>{});
  if (channels == 16 && whole) return f(RowKind<Row<1, 16, true>>{});
  if (channels == 16) return f(RowKind<Row<1, 16, true, false>>{});
  if (channels <= 32) return f(RowKind<Row<32, 1, false>>{});
  f(RowKind<Row<32, 8, false>>{});
}

inline int64_t rowsOf(const Tensor& tensor) { return tensor.count() / tensor.channels(); }

template <class R, class F>
__global__ void __launch_bounds__(rowThreads) rowsKernel(int64_t rows, int channels, F f) {
  constexpr int together = rowThreads / R::lanes;
  R own(channels, blockIdx.x);
  const int64_t first = own.sample * rows;
  own.forEach(first + int64_t{blockIdx.y} * together, first + rows, int64_t{gridDim.y} * together,
              [&](int64_t row) { f(own, row); });
}

// Calls f(own, row) for every row of `samples` times `rows`.
template <class F>
void forEachRow(const char* name, const Step& step, int64_t samples, int64_t rows, int64_t channels, F f) {
  byChannels(channels, wholeRows(step), [&](auto shape) {
    using R = typename decltype(shape)::type;
    const int64_t wanted = divideUp(rows, rowThreads / R::lanes);
    const dim3 blocks(static_cast<unsigned>(samples),
                      static_cast<unsigned>(wanted < mostBlocks ? wanted : mostBlocks));
    launch(name, rowsKernel<R, F>, Grid{blocks, rowThreads, R::sharedBytes}, rows, static_cast<int>(channels),
           f);
  });
}

// The same where rows need not know their sample.
template <class F>
void forEachRow(const char* name, const Step& step, const Tensor& tensor, F f) {
  forEachRow(name, step, 1, rowsOf(tensor), tensor.channels(), f);
}

// How rows are shared out where something is added up over them.
struct RowChunks {
  int64_t rows, chunkRows, chunks;

  RowChunks(int64_t rows, int64_t channels) : rows(rows) {
    byChannels(channels, true, [&](auto shape) {
      chunkRows = rowsOfChunk(rows, rowThreads / decltype(shape)::type::lanes * 16);
    });
    chunks = divideUp(rows, chunkRows);
  }

  // The rows of a block.
  __device__ int64_t begin() const { return blockIdx.y * chunkRows; }
  __device__ int64_t end() const { return begin() + chunkRows < rows ? begin() + chunkRows : rows; }
};

struct Weighted {
  float value, weight;
};

template <class R, class F>
__global__ void __launch_bounds__(sumThreads)
    rowSumsKernel(RowChunks all, int channels, F f, double* __restrict__ partial) {
  R own(channels, 0);
  double sums[2] = {};
  own.forEach(all.begin(), all.end(), sumThreads / R::lanes, [&](int64_t row) {
    const Weighted term = f(own, row);
    if (own.first()) {
      sums[0] += term.weight * term.value;
      sums[1] += term.weight;
    }
  });
  __syncthreads();
  addRowsOfBlock<2>(sumThreads, 1, sums);
  if (threadIdx.x == 0)
    for (int k = 0; k < 2; k++) partial[blockIdx.y * 2 + k] = sums[k];
}

inline size_t rowSumBytes(int64_t rows, int64_t channels) {
  return static_cast<size_t>(RowChunks(rows, channels).chunks) * 2 * sizeof(double);
}

// Calls finish(0, 0, totals) with the sums over all rows of weight times value and of weight, which
// f(own, row) yields as Weighted.
template <class F, class Finish>
void rowSums(const char* name, const Step& step, int64_t rows, int64_t channels, F f, Finish finish) {
  const RowChunks all(rows, channels);
  double* partial = static_cast<double*>(step.workspace);
  byChannels(channels, wholeRows(step), [&](auto shape) {
    using R = typename decltype(shape)::type;
    constexpr size_t shared = std::max(R::sharedBytes, 2 * sumThreads * sizeof(double));
    launch(name, rowSumsKernel<R, F>, Grid{dim3(1, static_cast<unsigned>(all.chunks)), sumThreads, shared},
           all, static_cast<int>(channels), f, partial);
  });
  finishSums<2>(1, all.chunks, 1, partial, finish);
}

}  // namespace voxgrad::cuda
