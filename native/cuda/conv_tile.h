// The product of two tiles in shared memory by a warp, for convolutions: TF32 tensor cores, or three of their
// products for the accuracy of float32.
#pragma once

#include "ptx.h"

namespace voxgrad::cuda {

// Whether products of float32 numbers are to be as accurate as float32 is, or as TF32: VOXGRAD_PRECISION=f32
// (the default) or tf32, read once per process; another value throws Error.
bool strictPrecision();

// Depth of the tiles that are in shared memory at a time.
constexpr int tileDepth = 32;

// What lies at `row`, of which lane i names row i % 8 of square i / 8: four squares of 8 rows of 4 numbers.
__device__ __forceinline__ void loadFragment(const float* row, float (&into)[4]) {
  uint32_t word[4];
  loadMatrices(word, row);
  UNROLL for (int i = 0; i < 4; i++) into[i] = __uint_as_float(word[i]);
}

// A fragment as a sum of TF32 numbers: `high` alone, or, strictly, with what its rounding left.
template <bool STRICT, int N>
struct SplitFragment {
  uint32_t high[N];
  uint32_t low[STRICT ? N : 1];

  __device__ __forceinline__ void set(int i, float value) {
    high[i] = roundToTf32(value);
    if constexpr (STRICT) low[i] = roundToTf32(value - __uint_as_float(high[i]));
  }
};

// The part of a block's product that a warp computes: ROWS x COLUMNS, in fragments of 16 x 8.
template <int ROWS, int COLUMNS, bool STRICT>
struct WarpProduct {
  static constexpr int down = ROWS / 16, across = COLUMNS / 8;
  static_assert(ROWS % 16 == 0 && COLUMNS % 16 == 0, "whole fragments, of columns in pairs");

  float total[down][across][4] = {};

  // Adds the product of one pair of tiles of tileDepth. loadA(row, k, float (&)[4]) yields a fragment of 16 x
  // 8 and loadB(column, k, float (&)[4]) two of 8 x 8, behind each other.
  //
  // Tensor cores do not round their sums but cut them off, which shrinks long ones: they add up within a tile
  // only (Ootomo and Yokota 2022, "Recovering single precision accuracy from tensor cores while surpassing
  // the FP32 theoretical peak performance").
  template <class LoadA, class LoadB>
  __device__ __forceinline__ void add(LoadA loadA, LoadB loadB) {
    float sum[down][across][4] = {};
    UNROLL for (int k = 0; k < tileDepth; k += 8) {
      SplitFragment<STRICT, 2> b[across];
      UNROLL for (int j = 0; j < across; j += 2) {
        float loaded[4];
        loadB(j * 8, k, loaded);
        UNROLL for (int i = 0; i < 4; i++) b[j + i / 2].set(i % 2, loaded[i]);
      }
      UNROLL for (int i = 0; i < down; i++) {
        float loaded[4];
        loadA(i * 16, k, loaded);
        SplitFragment<STRICT, 4> a;
        UNROLL for (int n = 0; n < 4; n++) a.set(n, loaded[n]);
        UNROLL for (int j = 0; j < across; j++) {
          if constexpr (STRICT) {
            multiplyTf32(sum[i][j], a.low, b[j].high);
            multiplyTf32(sum[i][j], a.high, b[j].low);
          }
          multiplyTf32(sum[i][j], a.high, b[j].high);
        }
      }
    }
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int j = 0; j < across; j++)
        UNROLL for (int n = 0; n < 4; n++) total[i][j][n] += sum[i][j][n];
  }

  // Calls store(row, column, float, float) for every two neighbours that the lane holds.
  template <class Store>
  __device__ __forceinline__ void forEachPair(Store store) const {
    const int lane = threadIdx.x % warpSize;
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++)
        UNROLL for (int j = 0; j < across; j++) store(i * 16 + half * 8 + lane / 4, j * 8 + lane % 4 * 2,
                                                      total[i][j][half * 2], total[i][j][half * 2 + 1]);
  }
};

}  // namespace voxgrad::cuda
