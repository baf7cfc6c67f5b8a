// Rows of few channels, such as the classes of voxels: a thread holds up to 16 channels of a row in
// registers, a warp shares a row of more.
#pragma once

#include <cmath>

#include "cuda.h"
#include "floats.h"
#include "sums.h"

namespace voxgrad::cuda {

// What a thread has of rows: `each` channels, which are fewer in rows that are not `exact`.
template <int lanes_, int each_, bool exact_>
struct Row {
  static constexpr int lanes = lanes_, each = each_;
  static constexpr bool exact = exact_;
  using Values = float[each];

  int channels, lane;
  // The sample that the row belongs to.
  int64_t sample;

  __device__ static Row of(int channels, int64_t sample) {
    return {channels, lanes == 1 ? 0 : static_cast<int>(threadIdx.x) % lanes, sample};
  }
  __device__ int channel(int i) const { return i * lanes + lane; }
  __device__ bool has(int i) const { return exact || channel(i) < channels; }
  __device__ bool first() const { return lanes == 1 || lane == 0; }

  // Row `row` of x, and `rest` for channels that it has not.
  __device__ void load(const float* x, int64_t row, float rest, Values& values) const {
    if constexpr (exact) {
      const auto read = reinterpret_cast<const Floats<each>*>(x)[row];
      for (int i = 0; i < each; i++) values[i] = read.of[i];
    } else {
      x += row * channels;
      for (int i = 0; i < each; i++) values[i] = has(i) ? x[channel(i)] : rest;
    }
  }
  __device__ void store(const Values& values, int64_t row, float* y) const {
    if constexpr (exact) {
      Floats<each> written;
      for (int i = 0; i < each; i++) written.of[i] = values[i];
      reinterpret_cast<Floats<each>*>(y)[row] = written;
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
};

constexpr int rowThreads = 256;

// Calls f with the Row that suits a number of channels from 1 to 256.
template <class F>
void byChannels(int64_t channels, F f) {
  if (channels == 2) return f(Row<1, 2, true>{});
  if (channels == 3) return f(Row<1, 3, true>{});
  if (channels == 4) return f(Row<1, 4, true>{});
  if (channels <= 8) return f(Row<1, 8, false>{});
  if (channels <= 16) return f(Row<1, 16, false>{});
  if (channels <= 32) return f(Row<32, 1, false>{});
  f(Row<32, 8, false>{});
}

inline int64_t rowsOf(const Tensor& tensor) { return tensor.count() / tensor.channels(); }

template <class R, class F>
__global__ void __launch_bounds__(rowThreads) rowsKernel(int64_t rows, int channels, F f) {
  constexpr int together = rowThreads / R::lanes;
  const R own = R::of(channels, blockIdx.y);
  const int64_t step = int64_t{gridDim.x} * together, first = own.sample * rows;
  for (int64_t row = int64_t{blockIdx.x} * together + threadIdx.x / R::lanes; row < rows; row += step)
    f(own, first + row);
}

// Calls f(row shape, row) for every row of `samples` times `rows`.
template <class F>
void forEachRow(const char* name, int64_t samples, int64_t rows, int64_t channels, F f) {
  byChannels(channels, [&](auto shape) {
    using R = decltype(shape);
    const int64_t wanted = divideUp(rows, rowThreads / R::lanes);
    const dim3 blocks(static_cast<unsigned>(wanted < mostBlocks ? wanted : mostBlocks),
                      static_cast<unsigned>(samples));
    launch(name, rowsKernel<R, F>, Grid{blocks, rowThreads}, rows, static_cast<int>(channels), f);
  });
}

// The same where rows need not know their sample.
template <class F>
void forEachRow(const char* name, const Tensor& tensor, F f) {
  forEachRow(name, 1, rowsOf(tensor), tensor.channels(), f);
}

// How rows are shared out where something is added up over them.
struct RowChunks {
  int64_t rows, chunkRows, chunks;

  RowChunks(int64_t rows, int64_t channels) : rows(rows) {
    byChannels(channels,
               [&](auto shape) { chunkRows = rowsOfChunk(rows, rowThreads / decltype(shape)::lanes * 16); });
    chunks = divideUp(rows, chunkRows);
  }
};

struct Weighted {
  float value, weight;
};

template <class R, class F>
__global__ void __launch_bounds__(sumThreads)
    rowSumsKernel(RowChunks all, int channels, F f, double* __restrict__ partial) {
  const R own = R::of(channels, 0);
  const int64_t begin = blockIdx.x * all.chunkRows;
  const int64_t end = begin + all.chunkRows < all.rows ? begin + all.chunkRows : all.rows;
  double sums[2] = {};
  for (int64_t row = begin + threadIdx.x / R::lanes; row < end; row += sumThreads / R::lanes) {
    const Weighted term = f(own, row);
    if (own.first()) {
      sums[0] += term.weight * term.value;
      sums[1] += term.weight;
    }
  }
  addRowsOfBlock<2>(sumThreads, 1, sums);
  if (threadIdx.x == 0)
    for (int k = 0; k < 2; k++) partial[blockIdx.x * 2 + k] = sums[k];
}

inline size_t rowSumBytes(int64_t rows, int64_t channels) {
  return static_cast<size_t>(RowChunks(rows, channels).chunks) * 2 * sizeof(double);
}

// Calls finish(0, 0, totals) with the sums over all rows of weight times value and of weight, which
// f(row shape, row) yields as Weighted.
template <class F, class Finish>
void rowSums(const char* name, int64_t rows, int64_t channels, void* workspace, F f, Finish finish) {
  const RowChunks all(rows, channels);
  double* partial = static_cast<double*>(workspace);
  byChannels(channels, [&](auto shape) {
    launch(name, rowSumsKernel<decltype(shape), F>,
           Grid{static_cast<unsigned>(all.chunks), sumThreads, 2 * sumThreads * sizeof(double)}, all,
           static_cast<int>(channels), f, partial);
  });
  finishSums<2>(1, all.chunks, 1, partial, finish);
}

}  // namespace voxgrad::cuda
