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

// e^x for x <= 0 within one unit in the last place; 0 where e^x is below 2^-126. NaN stays NaN.
VOXGRAD_INLINE vfloat expOfNegative(vfloat x) {
  const vfloat bounded = larger(vfloat{} - 88.0f, x);
  // Adding 1.5 * 2^23 rounds to a whole number n; the 127 more make the lowest byte of the sum the exponent
  // field of 2^n, which is that of 0 for the lowest n.
  const vfloat shifted = bounded * 1.44269504f + 12583039.0f;
  const vfloat n = shifted - 12583039.0f;
  const vfloat r = (bounded - n * kLn2High) - n * kLn2Low;
  // Minimax of the relative error for |r| <= ln 2 / 2, the first two terms being given: 3e-9.
  vfloat series = r * 1.38145402e-3f + 8.36874511e-3f;
  series = series * r + 4.16683908e-2f;
  series = series * r + 1.66665204e-1f;
  series = series * r + 4.99999934e-1f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  return rounded(series * reinterpret_cast<vfloat>(reinterpret_cast<vint>(shifted) << 23));
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
