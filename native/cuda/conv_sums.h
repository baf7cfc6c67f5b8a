// Moments of what a convolution stores. Each block of threads sums its voxels by channel as it stores them:
// around one of them, so that float32 suffices, with the sums and squares of a warp, in double, behind it.
// Those of all blocks are then added in an order that the shape alone gives.
#pragma once

#include "conv_tile.h"

namespace voxgrad::cuda {

// Stores the sums, and the sums of squares, of the columns that a block holds: call.sums[chunk][2][channels].
// isStored(row) says whether a row of the block's product is a voxel of the output; of sixteen rows that
// begin at a multiple of it, the first is if any is. All threads must call it; of shared memory it takes what
// tiles took before.
template <class Tile, Precision P, class IsStored>
__device__ __forceinline__ void sumBlock(const GatherCall& call,
                                         const WarpProduct<Tile::warpRows, Tile::warpColumns, P>& product,
                                         int group, int firstColumn, int64_t chunk, IsStored isStored) {
  using Product = WarpProduct<Tile::warpRows, Tile::warpColumns, P>;
  const int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  const int warpDown = warp / Tile::warpsAcross;
  const int warpColumn = warp % Tile::warpsAcross * Tile::warpColumns + lane % 4 * 2;
  // The lanes that hold other rows of the same columns.
  constexpr int nextRow = 4;
  const auto total = [](auto own) {
    for (int bit = nextRow; bit < warpSize; bit *= 2) own += __shfl_xor_sync(fullWarp, own, bit);
    return own;
  };

  bool counts[Product::down][2];
  int count = 0;
  UNROLL for (int i = 0; i < Product::down; i++) UNROLL for (int half = 0; half < 2; half++) {
    counts[i][half] = isStored(warpDown * Tile::warpRows + i * 16 + half * 8 + lane / nextRow);
    count += counts[i][half];
  }
  count = total(count);

  double* const shared = sharedMemory<double>();
  __syncthreads();
  UNROLL for (int j = 0; j < Product::across; j++) UNROLL for (int which = 0; which < 2; which++) {
    const int column = warpColumn + j * 8 + which;
    float values[Product::down][2], pivot = 0;
    UNROLL for (int i = Product::down - 1; i >= 0; i--) {
      UNROLL for (int half = 0; half < 2; half++) values[i][half] =
          call.asStored<P>(group, firstColumn + column, product.total[i][j][half * 2 + which]);
      if (counts[i][0]) pivot = values[i][0];
    }
    pivot = __shfl_sync(fullWarp, pivot, lane % nextRow);
    float sum = 0, square = 0;
    UNROLL for (int i = 0; i < Product::down; i++) UNROLL for (int half = 0; half < 2; half++) {
      if (!counts[i][half]) continue;
      const float apart = values[i][half] - pivot;
      sum += apart;
      square += apart * apart;
    }
    sum = total(sum);
    square = total(square);
    if (lane >= nextRow) continue;
    const double all = double{pivot} * count;
    double* const own = shared + warpDown * 2 * Tile::columns + column;
    own[0] = all + sum;
    own[Tile::columns] = square + pivot * (all + 2.0 * sum);
  }
  __syncthreads();

  for (int i = threadIdx.x; i < 2 * Tile::columns; i += Tile::threads) {
    const int column = firstColumn + i % Tile::columns;
    if (column >= call.gather.columns) continue;
    double sum = 0;
    for (int down = 0; down < Tile::rows / Tile::warpRows; down++)
      sum += shared[down * 2 * Tile::columns + i];
    call.sums[(chunk * 2 + i / Tile::columns) * call.channels() + int64_t{group} * call.gather.columns +
              column] = sum;
  }
}

// Bytes of call.sums for so many chunks, or to sum the output by itself.
size_t sumsBytes(const Gather& gather, int64_t chunks);
// Makes call.moments of the sums of all chunks.
void joinSums(const GatherCall& call, int64_t chunks);
// Makes them of the output as it lies in memory.
void sumOutput(const GatherCall& call);

}  // namespace voxgrad::cuda
