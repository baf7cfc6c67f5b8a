// What the kernels of a normalisation share: how elements divide into sets with moments of their own, and the
// affine map of a channel.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// How an activation divides into sets of elements that share their moments. Moments are [sets, groups, 2].
struct Sets {
  int64_t sets, groups, channels, perGroup;
  // Voxels of a set, and elements of one group of it.
  int64_t rows, groupCount;

  Sets(const Tensor& x, const Tensor& moments)
      : sets(moments.shape[0]),
        groups(moments.shape[1]),
        channels(x.channels()),
        perGroup(channels / groups),
        rows(x.count() / sets / channels),
        groupCount(rows * perGroup) {}

  // Mean and variance of a channel of a set.
  __device__ const float* momentsOf(const float* moments, int64_t set, int64_t channel) const {
    const auto group = static_cast<uint32_t>(channel) / static_cast<uint32_t>(perGroup);
    return moments + (set * groups + group) * 2;
  }
};

// y = (x - mean) scale + shift.
struct Affine {
  float mean, scale, shift;

  __device__ float of(float x) const { return (x - mean) * scale + shift; }
};

// Both directions take it, so that they agree where a ReLU is open.
__device__ inline Affine affineOf(const float* moments, float gamma, float beta, double epsilon) {
  return {moments[0], static_cast<float>(gamma / sqrt(moments[1] + epsilon)), beta};
}

// Elementwise work on `sets` times `rows` rows of channels, `each` neighbouring ones to a thread: a block
// covers `width` columns of such, and `together` rows at once.
struct NormShape {
  int64_t sets, rows, columns;
  int width, together;

  static constexpr int threads = 256;
  static constexpr int rowsOfThread = 8;

  NormShape(const Sets& s, int each)
      : sets(s.sets),
        rows(s.rows),
        columns(s.channels / each),
        width(static_cast<int>(columns < threads ? columns : threads)),
        together(threads / width) {}

  Grid grid(size_t sharedBytes) const {
    return {
        dim3(static_cast<unsigned>(blocksOfSet() * sets), static_cast<unsigned>(divideUp(columns, width))),
        threads, sharedBytes};
  }
  __host__ __device__ int64_t blocksOfSet() const {
    const int most = together * rowsOfThread;
    return (rows + most - 1) / most;
  }
  __device__ int64_t setOfBlock() const { return blockIdx.x / static_cast<unsigned>(blocksOfSet()); }
};

// What a thread has of it: every step-th row from `first` to `end`, counted from the block's first one, which
// begins at `at` in the tensor, `each` floats counting as one.
struct NormPart {
  int64_t set, column, at;
  int columnOfBlock, first, end;

  __device__ explicit NormPart(const NormShape& shape) {
    first = static_cast<int>(threadIdx.x) / shape.width;
    columnOfBlock = static_cast<int>(threadIdx.x) - first * shape.width;
    const auto blocks = static_cast<unsigned>(shape.blocksOfSet());
    set = shape.setOfBlock();
    column = int64_t{blockIdx.y} * shape.width + columnOfBlock;
    const int most = shape.together * NormShape::rowsOfThread;
    const int64_t begin = int64_t{blockIdx.x % blocks} * most, left = shape.rows - begin;
    at = (set * shape.rows + begin) * shape.columns + column;
    end = first < shape.together && column < shape.columns ? static_cast<int>(left < most ? left : most) : 0;
  }
};

}  // namespace voxgrad::cuda
