// The part of CUDA's language that our kernels use, for a plain C++ compiler.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "block.h"
#include "runtime.h"
#include "tensor_core.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

using dim3 = emulation::Extent;
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

#define threadIdx (emulation::fiber->thread)
#define blockIdx (emulation::block->index)
#define blockDim (emulation::block->threads)
#define gridDim (emulation::block->grid)

#define __syncthreads() emulation::block->barrier(__LINE__)

namespace emulation {

enum Operation : int { syncWarp = 1, shuffle, shuffleXor, shuffleDown, ballot, matrixLoad, matrixProduct };

// The value of the lane `from` of the same warp.
template <class T>
T shuffled(int operation, uint32_t mask, T value, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "words of 4 or 8 bytes");
  struct {
    T value;
    int from;
  } in{value, from};
  const uint32_t* out = block->collective(operation, mask, &in, sizeof in, [](Warp& warp, uint32_t present) {
    for (int lane = 0; lane < lanes; lane++) {
      if (!(present >> lane & 1)) continue;
      int from;
      std::memcpy(&from, reinterpret_cast<char*>(warp.in[lane]) + offsetof(decltype(in), from), sizeof from);
      if (!(present >> from & 1)) block->fail("a shuffle from a lane that does not take part");
      std::memcpy(warp.out[lane], warp.in[from], sizeof(T));
    }
  });
  T result;
  std::memcpy(&result, out, sizeof result);
  return result;
}

}  // namespace emulation

inline void __syncwarp(uint32_t mask = emulation::allLanes) {
  emulation::block->collective(emulation::syncWarp, mask, nullptr, 0, [](emulation::Warp&, uint32_t) {});
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int from) {
  return emulation::shuffled(emulation::shuffle, mask, value, from & 31);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits) {
  return emulation::shuffled(emulation::shuffleXor, mask, value, emulation::fiber->lane() ^ bits);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta) {
  const int lane = emulation::fiber->lane(), from = lane + static_cast<int>(delta);
  return emulation::shuffled(emulation::shuffleDown, mask, value, from < emulation::lanes ? from : lane);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  const uint32_t in = predicate != 0;
  return *emulation::block->collective(emulation::ballot, mask, &in, sizeof in,
                                       [](emulation::Warp& warp, uint32_t present) {
                                         uint32_t bits = 0;
                                         for (int lane = 0; lane < emulation::lanes; lane++)
                                           if (present >> lane & 1) bits |= warp.in[lane][0] << lane;
                                         for (auto& out : warp.out) out[0] = bits;
                                       });
}

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline void sincospif(float x, float* sine, float* cosine) {
  constexpr double pi = 3.14159265358979323846;
  *sine = static_cast<float>(std::sin(pi * x));
  *cosine = static_cast<float>(std::cos(pi * x));
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
