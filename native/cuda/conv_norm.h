// What a convolution may do to its source as it loads it: a normalisation, and a ReLU. The bits are those
// that a pass of its own would have stored.
#pragma once

#include "norm.h"
#include "pack.h"

namespace voxgrad::cuda {

struct SourceNorm {
  const float *moments = nullptr, *gamma = nullptr, *beta = nullptr;  // nothing is done without moments
  int perGroup = 1;                                                   // channels that share moments
  double epsilon = 0;

  __host__ __device__ explicit operator bool() const { return moments != nullptr; }

  __device__ __forceinline__ Affine mapOf(int64_t channel) const {
    return affineOf(moments + channel / perGroup * 2, gamma[channel], beta[channel], epsilon);
  }
  // Fills `maps` with those of `count` channels from `first` on, by all threads of the block.
  __device__ __forceinline__ void spread(int64_t first, int count, Affine* maps) const {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
      maps[i] = mapOf(first + i);
  }
};

// Normalises a chunk in shared memory; a ReLU that lets NaN pass follows.
template <class T>
__device__ __forceinline__ void normalizeChunk(T* chunk, const Affine* maps) {
  Pack<float, chunkOf<T>> values = loadFloats<chunkOf<T>>(chunk);
  UNROLL for (int i = 0; i < chunkOf<T>; i++) {
    const float value = maps[i].of(values.v[i]);
    values.v[i] = value < 0 ? 0.0f : value;
  }
  storeFloats(chunk, values);
}

}  // namespace voxgrad::cuda
