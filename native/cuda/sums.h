// Sums over many rows, per column, in an order that depends on the shape alone: the same bits on any device.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

constexpr int sumThreads = 256;
// Chunks of a set at most, so that the second stage stays short.
constexpr int64_t mostChunks = 2048;

// Rows that a block adds up: `usual` ones where that makes no more chunks than there may be.
inline int64_t rowsOfChunk(int64_t rows, int64_t usual) {
  const int64_t least = (rows + mostChunks - 1) / mostChunks;
  return usual > least ? usual : least;
}

// `sets` times `rows` rows of `columns`: an activation has its voxels as rows and its channels as columns; a
// sum over everything has one column.
struct SumShape {
  int64_t sets, rows, columns;
};

// How blocks and threads share the work, found once for all of them.
struct SumLayout {
  int64_t sets, rows, columns, chunkRows, chunks;
  // Columns that one block covers, and how many of its threads share each of them.
  int width, together;

  explicit SumLayout(const SumShape& shape)
      : sets(shape.sets),
        rows(shape.rows),
        columns(shape.columns),
        width(static_cast<int>(columns < sumThreads ? columns : sumThreads)),
        together(sumThreads / width) {
    chunkRows = rowsOfChunk(rows, together * 32);
    chunks = divideUp(rows, chunkRows);
  }
};

// Bytes of workspace for K sums.
template <int K>
size_t sumBytes(const SumShape& shape) {
  return static_cast<size_t>(shape.sets * SumLayout(shape).chunks * K * shape.columns) * sizeof(double);
}

// Adds the sums of the threads of a block that stand in `rows` rows of `width`, which all of its threads
// must reach; the first row gets the totals. Takes K * sumThreads doubles of shared memory.
template <int K>
__device__ void addRowsOfBlock(int rows, int width, double (&sums)[K]) {
  double* shared = sharedMemory<double>() + threadIdx.x;
  const int row = static_cast<int>(threadIdx.x) / width;
  for (int k = 0; k < K; k++) shared[k * sumThreads] = sums[k];
  while (rows > 1) {
    const int half = (rows + 1) / 2;
    __syncthreads();
    if (row + half < rows)
      for (int k = 0; k < K; k++) shared[k * sumThreads] += shared[k * sumThreads + half * width];
    rows = half;
  }
  for (int k = 0; k < K; k++) sums[k] = shared[k * sumThreads];
}

// The part of a chunk that a thread adds up: of one column, every step-th row from `first` to `end`, counted
// from row `begin` of the set.
struct SumPart {
  int64_t set, column, begin;
  int chunk, first, end, step;

  __device__ explicit SumPart(const SumLayout& layout) {
    const int row = static_cast<int>(threadIdx.x) / layout.width;
    set = blockIdx.x;
    chunk = static_cast<int>(blockIdx.z);
    column = int64_t{blockIdx.y} * layout.width + (static_cast<int>(threadIdx.x) - row * layout.width);
    begin = chunk * layout.chunkRows;
    const int64_t left = layout.rows - begin;
    end = static_cast<int>(left < layout.chunkRows ? left : layout.chunkRows);
    step = layout.together;
    first = row < step && column < layout.columns ? row : end;
  }

  // Adds up what the threads of the block have found: partial[set][chunk][k][column].
  template <int K>
  __device__ void store(const SumLayout& layout, double (&sums)[K], double* partial) const {
    addRowsOfBlock<K>(step, layout.width, sums);
    if (static_cast<int>(threadIdx.x) >= layout.width || column >= layout.columns) return;
    for (int k = 0; k < K; k++)
      partial[((set * layout.chunks + chunk) * K + k) * layout.columns + column] = sums[k];
  }
};

template <int K, class Add>
__global__ void __launch_bounds__(sumThreads)
    sumChunksKernel(SumLayout layout, Add add, double* __restrict__ partial) {
  const SumPart part(layout);
  double sums[K] = {};
  for (int row = part.first; row < part.end; row += part.step)
    add(part.set, part.begin + row, part.column, sums);
  part.store<K>(layout, sums, partial);
}

// The grid of the first stage, for kernels that find their sums through SumPart. A batch may be longer than
// the second and third extent of a grid: sets are the first.
template <int K>
Grid sumGrid(const SumLayout& layout) {
  return {
      dim3(static_cast<unsigned>(layout.sets), static_cast<unsigned>(divideUp(layout.columns, layout.width)),
           static_cast<unsigned>(layout.chunks)),
      sumThreads, K * sumThreads * sizeof(double)};
}

// Each block takes `width` columns of a set.
template <int K, class Finish>
__global__ void __launch_bounds__(sumThreads)
    finishSumsKernel(int chunks, int64_t columns, int width, const double* __restrict__ partial,
                     Finish finish) {
  const int rows = sumThreads / width, row = static_cast<int>(threadIdx.x) / width;
  const auto blocks = static_cast<unsigned>((columns + width - 1) / width);
  const int64_t set = blockIdx.x / blocks;
  const int64_t column = int64_t{blockIdx.x % blocks} * width + (static_cast<int>(threadIdx.x) - row * width);
  partial += set * chunks * K * columns;
  double totals[K] = {};
  if (row < rows && column < columns)
    for (int chunk = row; chunk < chunks; chunk += rows)
      for (int k = 0; k < K; k++) totals[k] += partial[(int64_t{chunk} * K + k) * columns + column];
  addRowsOfBlock<K>(rows, width, totals);
  if (row == 0 && column < columns) finish(set, column, totals);
}

// Calls finish(set, column, const double (&totals)[K]) for every column of every set of
// partial[set][chunk][k][column].
template <int K, class Finish>
void finishSums(int64_t sets, int64_t chunks, int64_t columns, const double* partial, Finish finish) {
  // Few columns to a block, so that many threads share the chunks.
  const int width = static_cast<int>(columns < 32 ? columns : 32);
  const auto blocks = static_cast<unsigned>(divideUp(columns, width) * sets);
  launch("finishSums", finishSumsKernel<K, Finish>, Grid{blocks, sumThreads, K * sumThreads * sizeof(double)},
         static_cast<int>(chunks), columns, width, partial, finish);
}

// Calls add(set, row, column, double (&sums)[K]) for every element, then finish(set, column, const double
// (&totals)[K]) for every column of every set. Both are small structs that travel to the device.
template <int K, class Add, class Finish>
void columnSums(const char* name, const SumShape& shape, void* workspace, Add add, Finish finish) {
  double* partial = static_cast<double*>(workspace);
  const SumLayout layout(shape);
  launch(name, sumChunksKernel<K, Add>, sumGrid<K>(layout), layout, add, partial);
  finishSums<K>(layout.sets, layout.chunks, layout.columns, partial, finish);
}

}  // namespace voxgrad::cuda
