// The product of two tiles in shared memory by a warp, for convolutions: tensor cores for bfloat16, for TF32,
// or three products of TF32 for the accuracy of float32.
#pragma once

#include "conv_gather.h"
#include "ptx.h"

namespace voxgrad::cuda {

// Depth of the tiles that are in shared memory at a time, and of one product of tensor cores: the same bytes
// for all precisions.
template <Precision P>
constexpr int tileDepth = 128 / static_cast<int>(sizeof(Element<P>));
template <Precision P>
constexpr int productDepth = 32 / static_cast<int>(sizeof(Element<P>));

// Copies BYTES to shared memory, as copyAsync does where there are enough of them.
template <int BYTES>
__device__ __forceinline__ void bring(void* to, const void* from, bool valid) {
  if constexpr (BYTES == 2)
    *static_cast<uint16_t*>(to) = valid ? *static_cast<const uint16_t*>(from) : uint16_t{0};
  else
    copyAsync<BYTES>(to, from, valid);
}

// The words of a fragment, each a float or two bfloat16; of a float a sum of TF32 numbers: `high` alone, or,
// for float32, with what its rounding left.
template <Precision P, int N>
struct Fragment {
  uint32_t high[N];
  uint32_t low[P == Precision::f32 ? N : 1];

  __device__ __forceinline__ void set(int i, uint32_t word) {
    if constexpr (P == Precision::bf16) {
      high[i] = word;
    } else {
      const float value = __uint_as_float(word);
      high[i] = roundToTf32(value);
      if constexpr (P == Precision::f32) {
        // What a product reads of it: PTX leaves the bits below open.
        high[i] &= tf32Bits;
        low[i] = roundToTf32(value - __uint_as_float(high[i]));
      }
    }
  }
};

template <Precision P>
__device__ __forceinline__ void multiply(float (&sum)[4], const Fragment<P, 4>& a, const Fragment<P, 2>& b) {
  if constexpr (P == Precision::bf16) {
    multiplyBf16(sum, a.high, b.high);
  } else {
    if constexpr (P == Precision::f32) {
      multiplyTf32(sum, a.low, b.high);
      multiplyTf32(sum, a.high, b.low);
    }
    multiplyTf32(sum, a.high, b.high);
  }
}

// Loads fragments of operands that lie in shared memory with the depth outermost, `pitch` elements from one
// to the next, a multiple of a chunk: first those of A, whose rows follow each other, then those of B.
template <Precision P>
class RowsByDepth {
 public:
  __device__ RowsByDepth(const Element<P>* tile, int pitch) {
    const int lane = threadIdx.x % warpSize;
    at_ = P == Precision::bf16 ? tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8
                               : tile + lane % 4 * pitch + lane / 4;
  }
  __device__ __forceinline__ void load(int row, int k, int pitch, uint32_t (&into)[4]) const {
    if constexpr (P == Precision::bf16)
      loadMatrices<true>(into, at_ + k * pitch + row);
    else
      UNROLL for (int i = 0; i < 4; i++) into[i] =
          __float_as_uint(at_[(k + i / 2 * 4) * pitch + row + i % 2 * 8]);
  }

 private:
  const Element<P>* at_;
};

template <Precision P>
class ColumnsByDepth {
 public:
  ColumnsByDepth() = default;
  __device__ __forceinline__ ColumnsByDepth(const Element<P>* tile, int pitch) {
    const int lane = threadIdx.x % warpSize;
    at_ = P == Precision::bf16 ? tile + lane % 16 * pitch : tile + lane % 4 * pitch + lane / 4;
  }
  // Of eight columns each that begin at `first` and `second`.
  __device__ __forceinline__ void load(int first, int second, int k, int pitch, uint32_t (&into)[4]) const {
    if constexpr (P == Precision::bf16)
      loadMatrices<true>(into, at_ + k * pitch + (threadIdx.x % warpSize < 16 ? first : second));
    else
      UNROLL for (int i = 0; i < 4; i++) into[i] =
          __float_as_uint(at_[(k + i % 2 * 4) * pitch + (i < 2 ? first : second)]);
  }

 private:
  const Element<P>* at_;
};

// The part of a block's product that a warp computes: ROWS x COLUMNS, in fragments of 16 x 8.
template <int ROWS, int COLUMNS, Precision P>
struct WarpProduct {
  static constexpr int down = ROWS / 16, across = COLUMNS / 8;
  static_assert(ROWS % 16 == 0 && COLUMNS % 16 == 0, "whole fragments, of columns in pairs");

  float total[down][across][4] = {};

  // Adds the product of one pair of tiles of DEPTH. loadA(row, k, uint32_t (&)[4]) yields a fragment of
  // 16 x productDepth and loadB(column, k, uint32_t (&)[4]) two of productDepth x 8, behind each other.
  //
  // Tensor cores do not round their sums but cut them off, which shrinks long ones: where that would show,
  // they add up within a tile only (Ootomo and Yokota 2022, "Recovering single precision accuracy from tensor
  // cores while surpassing the FP32 theoretical peak performance").
  template <int DEPTH = tileDepth<P>, class LoadA, class LoadB>
  __device__ __forceinline__ void add(LoadA loadA, LoadB loadB) {
    float ofTile[down][across][4] = {};
    float(&sum)[down][across][4] = P == Precision::bf16 ? total : ofTile;
    UNROLL for (int k = 0; k < DEPTH; k += productDepth<P>) {
      Fragment<P, 2> b[across];
      UNROLL for (int j = 0; j < across; j += 2) {
        uint32_t loaded[4];
        loadB(j * 8, k, loaded);
        UNROLL for (int i = 0; i < 4; i++) b[j + i / 2].set(i % 2, loaded[i]);
      }
      UNROLL for (int i = 0; i < down; i++) {
        uint32_t loaded[4];
        loadA(i * 16, k, loaded);
        Fragment<P, 4> a;
        UNROLL for (int n = 0; n < 4; n++) a.set(n, loaded[n]);
        UNROLL for (int j = 0; j < across; j++) multiply<P>(sum[i][j], a, b[j]);
      }
    }
    if constexpr (P != Precision::bf16)
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
