// Moments of what a convolution stores. Each block of threads sums its voxels by channel as it stores them:
// around one of them, so that float32 suffices for the few that a warp has, the warps' in double behind it.
// Those of all blocks are then added in an order that the shape alone gives.
#pragma once

#include "conv_tile.h"

namespace voxgrad::cuda {

// What a block of threads shares as it sums COLUMNS columns of which each is held by WARPS warps.
template <int COLUMNS, int WARPS>
struct BlockSums {
  float pivots[COLUMNS];  // of the block's first voxel
  int counts[WARPS];      // voxels
  float apart[WARPS][2][COLUMNS];
};

// Adds up each of N numbers over the eight lanes that differ in bits 2 to 4: lane l gets the sum of number
// l N / 32. Lanes halve what they still have to add with every exchange.
template <int N>
__device__ __forceinline__ float addAcross(float (&numbers)[N]) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  UNROLL for (int half = N / 2, bit = warpSize / 2; bit > 2; half /= 2, bit /= 2) {
    if (half == 0) {
      numbers[0] += __shfl_xor_sync(fullWarp, numbers[0], bit);
      continue;
    }
    const bool upper = (lane & bit) != 0;
    UNROLL for (int k = 0; k < half; k++) {
      const float sent = upper ? numbers[k] : numbers[half + k];
      numbers[k] = (upper ? numbers[half + k] : numbers[k]) + __shfl_xor_sync(fullWarp, sent, bit);
    }
  }
  return numbers[0];
}

// Stores the sums, and the sums of squares, of the columns that a block holds: call.sums[chunk][2][channels].
// Fragments are what a warp holds: at(i, j, n) is number n of the lane in fragment [i][j] of 16 x 8, whose
// row half * 8 is row(i, half) of the block, and column(j) the first column of fragments [..][j]; `warp` says
// which of the warps with these columns it is. isStored(row) says whether that row is a voxel of the output:
// row 0 is if any is. All threads of the block must call it, `holds` in those of warps with fragments; of
// shared memory it takes what is at `sums`.
template <Precision P, class Fragments, int COLUMNS, int WARPS, class IsStored>
__device__ __forceinline__ void sumFragments(const GatherCall& call, const Fragments& fragments, bool holds,
                                             BlockSums<COLUMNS, WARPS>& sums, int group, int firstColumn,
                                             int64_t chunk, IsStored isStored) {
  constexpr int down = Fragments::down, across = Fragments::across;
  const int lane = static_cast<int>(threadIdx.x) % warpSize, pair = lane % 4 * 2;
  const auto stored = [&](int i, int j, int n) {
    return call.asStored<P>(group, firstColumn + fragments.column(j) + pair + n % 2, fragments.at(i, j, n));
  };
  __syncthreads();
  if (holds && fragments.row(0, 0) == 0)
    UNROLL for (int j = 0; j < across; j++) UNROLL for (int n = 0; n < 2; n++)
        sums.pivots[fragments.column(j) + pair + n] = stored(0, j, n);
  __syncthreads();
  if (holds) {
    bool counts[down][2];
    float count[1] = {};
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++) {
      counts[i][half] = isStored(fragments.row(i, half));
      count[0] += static_cast<float>(counts[i][half]);
    }
    const int all = static_cast<int>(addAcross(count));
    if (lane == 0) sums.counts[fragments.warp] = all;

    // Columns that lanes add up together: of so many fragments.
    constexpr int together = across < 4 ? across : 4;
    UNROLL for (int first = 0; first < across; first += together) {
      float sum[2 * together] = {}, square[2 * together] = {};
      UNROLL for (int k = 0; k < 2 * together; k++) {
        const int j = first + k / 2;
        const float pivot = sums.pivots[fragments.column(j) + pair + k % 2];
        UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++) {
          if (!counts[i][half]) continue;
          const float apart = stored(i, j, half * 2 + k % 2) - pivot;
          sum[k] += apart;
          square[k] += apart * apart;
        }
      }
      const float ofSum = addAcross(sum), ofSquare = addAcross(square);
      constexpr int sharing = warpSize / (2 * together);  // lanes with the same sum, and four columns apart
      if (lane % sharing >= 4) continue;
      const int k = lane / sharing;
      const int column = fragments.column(first + k / 2) + pair + k % 2;
      sums.apart[fragments.warp][0][column] = ofSum;
      sums.apart[fragments.warp][1][column] = ofSquare;
    }
  }
  __syncthreads();

  for (int i = static_cast<int>(threadIdx.x); i < COLUMNS; i += static_cast<int>(blockDim.x)) {
    if (firstColumn + i >= call.gather.columns) continue;
    const double pivot = sums.pivots[i];
    double sum = 0, square = 0, count = 0;
    for (int warp = 0; warp < WARPS; warp++) {
      sum += sums.apart[warp][0][i];
      square += sums.apart[warp][1][i];
      count += sums.counts[warp];
    }
    double* const own =
        call.sums + chunk * 2 * call.channels() + int64_t{group} * call.gather.columns + firstColumn + i;
    own[0] = pivot * count + sum;
    own[call.channels()] = square + pivot * (pivot * count + 2 * sum);
  }
}

// The fragments of a product whose warps each compute Tile::warpRows x Tile::warpColumns.
template <class Tile, Precision P>
struct WarpFragments {
  using Product = WarpProduct<Tile::warpRows, Tile::warpColumns, P>;
  static constexpr int down = Product::down, across = Product::across;
  static constexpr int warps = Tile::rows / Tile::warpRows;
  using Sums = BlockSums<Tile::columns, warps>;

  const Product& product;
  int warp, firstColumn;

  __device__ explicit WarpFragments(const Product& product)
      : product(product),
        warp(static_cast<int>(threadIdx.x) / warpSize / Tile::warpsAcross),
        firstColumn(static_cast<int>(threadIdx.x) / warpSize % Tile::warpsAcross * Tile::warpColumns) {}
  __device__ __forceinline__ float at(int i, int j, int n) const { return product.total[i][j][n]; }
  __device__ __forceinline__ int row(int i, int half) const {
    return warp * Tile::warpRows + i * 16 + half * 8 + static_cast<int>(threadIdx.x) % warpSize / 4;
  }
  __device__ __forceinline__ int column(int j) const { return firstColumn + j * 8; }
};

// sumFragments of these; `shared` has room for WarpFragments::Sums.
template <class Tile, Precision P, class IsStored>
__device__ __forceinline__ void sumBlock(const GatherCall& call,
                                         const WarpProduct<Tile::warpRows, Tile::warpColumns, P>& product,
                                         void* shared, int group, int firstColumn, int64_t chunk,
                                         IsStored isStored) {
  using Fragments = WarpFragments<Tile, P>;
  sumFragments<P>(call, Fragments(product), true, *static_cast<typename Fragments::Sums*>(shared), group,
                  firstColumn, chunk, isStored);
}

// Bytes of call.sums for so many chunks, or to sum the output by itself.
size_t sumsBytes(const Gather& gather, int64_t chunks);
// Makes call.moments of the sums of all chunks.
void joinSums(const GatherCall& call, int64_t chunks);
// Makes them of the output as it lies in memory.
void sumOutput(const GatherCall& call);

}  // namespace voxgrad::cuda
