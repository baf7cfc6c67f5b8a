// exp and log of a vector, and the few steps they need. Like simd.h, for sources compiled once per
// instruction set.
#pragma once

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

// a > b ? a : b: where either is NaN, b.
VOXGRAD_INLINE vfloat larger(vfloat a, vfloat b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// ln 2 in two parts: a whole number below 2^15 times the first is exact.
constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -2.12194440e-4f;

// x, so that the product which it is gets rounded here: fused with what a caller adds it would be needed, and
// computed, twice.
VOXGRAD_INLINE vfloat rounded(vfloat x) {
#if defined(__x86_64__)
  __asm__("" : "+v"(x));
#endif
  return x;
}

// Replaces each x <= 0 by e^x within one unit in the last place; by 0 where e^x is below 2^-126. NaN stays
// NaN. Step by step in all of them: each waits for the one before, and processors do not look far enough
// ahead to find the next vector's meanwhile.
template <int N>
VOXGRAD_INLINE void expOfNegatives(vfloat* x) {
  vfloat bounded[N], shifted[N], r[N], series[N];
#define VOXGRAD_EACH _Pragma("GCC unroll 8") for (int i = 0; i < N; ++i)
  VOXGRAD_EACH bounded[i] = larger(vfloat{} - 88.0f, x[i]);
  // Adding 1.5 * 2^23 rounds to a whole number n; the 127 more make the lowest byte of the sum the exponent
  // field of 2^n, which is that of 0 for the lowest n.
  VOXGRAD_EACH shifted[i] = bounded[i] * 1.44269504f + 12583039.0f;
  VOXGRAD_EACH series[i] = shifted[i] - 12583039.0f;
  VOXGRAD_EACH r[i] = bounded[i] - series[i] * kLn2High;
  VOXGRAD_EACH r[i] = r[i] - series[i] * kLn2Low;
  // Minimax of the relative error for |r| <= ln 2 / 2, the first two terms being given: 3e-9.
  VOXGRAD_EACH series[i] = r[i] * 1.38145402e-3f + 8.36874511e-3f;
  VOXGRAD_EACH series[i] = series[i] * r[i] + 4.16683908e-2f;
  VOXGRAD_EACH series[i] = series[i] * r[i] + 1.66665204e-1f;
  VOXGRAD_EACH series[i] = series[i] * r[i] + 4.99999934e-1f;
  VOXGRAD_EACH series[i] = series[i] * r[i] + 1.0f;
  VOXGRAD_EACH series[i] = series[i] * r[i] + 1.0f;
  VOXGRAD_EACH x[i] = rounded(series[i] * reinterpret_cast<vfloat>(reinterpret_cast<vint>(shifted[i]) << 23));
#undef VOXGRAD_EACH
}

VOXGRAD_INLINE vfloat expOfNegative(vfloat x) {
  expOfNegatives<1>(&x);
  return x;
}

// ln x of positive normal floats, relative error below 2e-7; NaN for infinity and NaN.
VOXGRAD_INLINE vfloat logOf(vfloat x) {
  // x = m * 2^e with m from sqrt(1/2) to sqrt(2).
  const vint offset = reinterpret_cast<vint>(x) - 0x3f3504f3;
  const vfloat e = __builtin_convertvector(offset >> 23, vfloat);
  const vfloat m = reinterpret_cast<vfloat>((offset & 0x7fffff) + 0x3f3504f3);
  // ln m = 2 artanh s, s = (m - 1) / (m + 1): |s| <= 0.172 leaves 2e-9 behind s^9.
  const vfloat s = (m - 1.0f) / (m + 1.0f), square = s * s;
  vfloat series = square * (2.0f / 9) + 2.0f / 7;
  series = series * square + 2.0f / 5;
  series = series * square + 2.0f / 3;
  // x - x is 0, or NaN where there is no logarithm to give.
  return e * kLn2High + (e * kLn2Low + (series * square * s + 2.0f * s)) + (x - x);
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
