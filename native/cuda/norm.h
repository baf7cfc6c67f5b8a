// What the kernels of a normalisation share: how elements divide into sets with moments of their own, and the
// affine map of a channel.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// How an activation divides into sets of elements that share their moments. Moments are [sets, groups, 2].
struct Sets {
  int64_t sets, groups, channels;
  // Voxels of a set, and elements of one group of it.
  int64_t rows, groupCount;

  Sets(const Tensor& x, const Tensor& moments)
      : sets(moments.shape[0]),
        groups(moments.shape[1]),
        channels(x.channels()),
        rows(x.count() / sets / channels),
        groupCount(rows * (channels / groups)) {}

  // Mean and variance of a channel of a set.
  __device__ const float* momentsOf(const float* moments, int64_t set, int64_t channel) const {
    return moments + (set * groups + channel / (channels / groups)) * 2;
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
// covers some columns of such, and its threads stand in rows.
struct NormShape {
  int64_t sets, rows, columns;

  static constexpr int threads = 256;
  static constexpr int rowsOfThread = 8;

  NormShape(const Sets& s, int each) : sets(s.sets), rows(s.rows), columns(s.channels / each) {}

  __host__ __device__ int64_t width() const { return columns < threads ? columns : threads; }
  __host__ __device__ int64_t rowsAtOnce() const { return threads / width(); }
  Grid grid(size_t sharedBytes) const {
    return {dim3(static_cast<unsigned>(divideUp(rows, rowsAtOnce() * rowsOfThread)),
                 static_cast<unsigned>(divideUp(columns, width())), static_cast<unsigned>(sets)),
            threads, sharedBytes};
  }
};

}  // namespace voxgrad::cuda
