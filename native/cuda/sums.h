// Sums over many rows, per column, in an order that depends on the shape alone: the same bits on any device.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

constexpr int sumThreads = 256;
// Chunks of a set at most, so that the second stage stays short.
constexpr int64_t mostChunks = 2048;

// Rows that a block adds up: `usual` ones where that makes no more chunks than there may be.
__host__ __device__ inline int64_t rowsOfChunk(int64_t rows, int64_t usual) {
  const int64_t least = (rows + mostChunks - 1) / mostChunks;
  return usual > least ? usual : least;
}

// `sets` times `rows` rows of `columns`: an activation has its voxels as rows and its channels as columns; a
// sum over everything has one column.
struct SumShape {
  int64_t sets, rows, columns;

  static constexpr int threads = sumThreads;

  // Rows of a set that one block adds up.
  __host__ __device__ int64_t chunkRows() const { return rowsOfChunk(rows, rowsAtOnce() * 32); }
  __host__ __device__ int64_t chunks() const { return (rows + chunkRows() - 1) / chunkRows(); }
  // Columns that one block covers, and how many of its threads share each of them.
  __host__ __device__ int64_t width() const { return columns < threads ? columns : threads; }
  __host__ __device__ int64_t rowsAtOnce() const { return threads / width(); }
};

// Bytes of workspace for K sums.
template <int K>
size_t sumBytes(const SumShape& shape) {
  return static_cast<size_t>(shape.sets * shape.chunks() * K * shape.columns) * sizeof(double);
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

// The part of a chunk that a thread adds up: every step-th row from `begin` to `end` of one column.
struct SumPart {
  int64_t set, column, begin, end, step;

  __device__ explicit SumPart(const SumShape& shape) {
    const int width = static_cast<int>(shape.width()), row = static_cast<int>(threadIdx.x) / width;
    set = blockIdx.z;
    column = int64_t{blockIdx.y} * width + threadIdx.x % width;
    step = shape.rowsAtOnce();
    begin = blockIdx.x * shape.chunkRows();
    end = begin + shape.chunkRows() < shape.rows ? begin + shape.chunkRows() : shape.rows;
    begin = row < step && column < shape.columns ? begin + row : end;
  }

  // Adds up what the threads of the block have found: partial[set][chunk][k][column].
  template <int K>
  __device__ void store(const SumShape& shape, double (&sums)[K], double* partial) const {
    addRowsOfBlock<K>(static_cast<int>(step), static_cast<int>(shape.width()), sums);
    if (threadIdx.x >= shape.width() || column >= shape.columns) return;
    for (int k = 0; k < K; k++)
      partial[((set * shape.chunks() + blockIdx.x) * K + k) * shape.columns + column] = sums[k];
  }
};

template <int K, class Add>
__global__ void __launch_bounds__(sumThreads)
    sumChunksKernel(SumShape shape, Add add, double* __restrict__ partial) {
  const SumPart part(shape);
  double sums[K] = {};
  for (int64_t row = part.begin; row < part.end; row += part.step) add(part.set, row, part.column, sums);
  part.store<K>(shape, sums, partial);
}

// The grid of the first stage, for kernels that find their sums through SumPart.
template <int K>
Grid sumGrid(const SumShape& shape) {
  return {
      dim3(static_cast<unsigned>(shape.chunks()),
           static_cast<unsigned>(divideUp(shape.columns, shape.width())), static_cast<unsigned>(shape.sets)),
      sumThreads, K * sumThreads * sizeof(double)};
}

// Few columns to a block, so that many threads share the chunks.
__host__ __device__ inline int64_t finishWidth(int64_t columns) { return columns < 32 ? columns : 32; }

template <int K, class Finish>
__global__ void __launch_bounds__(sumThreads)
    finishSumsKernel(int64_t chunks, int64_t columns, const double* __restrict__ partial, Finish finish) {
  const int width = static_cast<int>(finishWidth(columns)), rows = sumThreads / width;
  const int row = static_cast<int>(threadIdx.x) / width;
  const int64_t blocks = (columns + width - 1) / width, set = blockIdx.x / blocks;
  const int64_t column = blockIdx.x % blocks * width + threadIdx.x % width;
  double totals[K] = {};
  if (row < rows && column < columns)
    for (int64_t chunk = row; chunk < chunks; chunk += rows)
      for (int k = 0; k < K; k++) totals[k] += partial[((set * chunks + chunk) * K + k) * columns + column];
  addRowsOfBlock<K>(rows, width, totals);
  if (row == 0 && column < columns) finish(set, column, totals);
}

// Calls finish(set, column, const double (&totals)[K]) for every column of every set of
// partial[set][chunk][k][column].
template <int K, class Finish>
void finishSums(int64_t sets, int64_t chunks, int64_t columns, const double* partial, Finish finish) {
  const int64_t blocks = sets * divideUp(columns, finishWidth(columns));
  launch("finishSums", finishSumsKernel<K, Finish>,
         Grid{static_cast<unsigned>(blocks), sumThreads, K * sumThreads * sizeof(double)}, chunks, columns,
         partial, finish);
}

// Calls add(set, row, column, double (&sums)[K]) for every element, then finish(set, column, const double
// (&totals)[K]) for every column of every set. Both are small structs that travel to the device.
template <int K, class Add, class Finish>
void columnSums(const char* name, const SumShape& shape, void* workspace, Add add, Finish finish) {
  double* partial = static_cast<double*>(workspace);
  launch(name, sumChunksKernel<K, Add>, sumGrid<K>(shape), shape, add, partial);
  finishSums<K>(shape.sets, shape.chunks(), shape.columns, partial, finish);
}

}  // namespace voxgrad::cuda
