// Sums over many rows, per column, in an order that depends on the shape alone: the same bits on any device.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// `sets` times `rows` rows of `columns`: an activation has its voxels as rows and its channels as columns; a
// sum over everything has one column.
struct SumShape {
  int64_t sets, rows, columns;

  static constexpr int threads = 256;

  // Rows of a set that one block adds up.
  __host__ __device__ int64_t chunkRows() const {
    const int64_t side = rowsAtOnce() * 64;
    // At most 2048 chunks, so that the second stage stays short.
    const int64_t least = (rows + 2047) / 2048;
    return side > least ? side : least;
  }
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

// The K sums of every chunk: partial[set][chunk][k][column].
template <int K, class Add>
__global__ void __launch_bounds__(SumShape::threads)
    sumChunksKernel(SumShape shape, Add add, double* __restrict__ partial) {
  double* shared = sharedMemory<double>();
  const int64_t width = shape.width(), together = shape.rowsAtOnce();
  const int64_t chunk = blockIdx.x, set = blockIdx.z;
  const int64_t column = int64_t{blockIdx.y} * width + threadIdx.x % width, row0 = threadIdx.x / width;
  const int64_t begin = chunk * shape.chunkRows();
  const int64_t end = begin + shape.chunkRows() < shape.rows ? begin + shape.chunkRows() : shape.rows;
  double sums[K] = {};
  if (row0 < together && column < shape.columns)
    for (int64_t row = begin + row0; row < end; row += together) add(set, row, column, sums);
  for (int k = 0; k < K; k++) shared[k * SumShape::threads + threadIdx.x] = sums[k];
  __syncthreads();
  if (row0 != 0 || column >= shape.columns) return;
  for (int k = 0; k < K; k++) {
    double total = 0;
    for (int64_t r = 0; r < together; r++) total += shared[k * SumShape::threads + r * width + threadIdx.x];
    partial[((set * shape.chunks() + chunk) * K + k) * shape.columns + column] = total;
  }
}

template <int K, class Finish>
__global__ void __launch_bounds__(128)
    finishSumsKernel(SumShape shape, const double* __restrict__ partial, Finish finish) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= shape.sets * shape.columns) return;
  const int64_t set = i / shape.columns, column = i % shape.columns;
  double totals[K] = {};
  for (int64_t chunk = 0; chunk < shape.chunks(); chunk++)
    for (int k = 0; k < K; k++)
      totals[k] += partial[((set * shape.chunks() + chunk) * K + k) * shape.columns + column];
  finish(set, column, totals);
}

// Calls add(set, row, column, double (&sums)[K]) for every element, then finish(set, column, const double
// (&totals)[K]) for every column of every set. Both are small structs that travel to the device.
template <int K, class Add, class Finish>
void columnSums(const char* name, const SumShape& shape, void* workspace, Add add, Finish finish) {
  double* partial = static_cast<double*>(workspace);
  const dim3 blocks(static_cast<unsigned>(shape.chunks()),
                    static_cast<unsigned>(divideUp(shape.columns, shape.width())),
                    static_cast<unsigned>(shape.sets));
  launch(name, sumChunksKernel<K, Add>,
         Grid{blocks, SumShape::threads, K * SumShape::threads * sizeof(double)}, shape, add, partial);
  launch("finishSums", finishSumsKernel<K, Finish>,
         Grid{static_cast<unsigned>(divideUp(shape.sets * shape.columns, 128)), 128}, shape, partial, finish);
}

}  // namespace voxgrad::cuda
