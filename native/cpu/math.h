// exp, log, sine and cosine as short series, without branches and calls: loops over them vectorise.
#pragma once

#include <cstdint>
#include <cstring>

// Pasted into its caller, so that it is compiled for each instruction set that the caller is cloned for.
#define VOXGRAD_INLINE inline __attribute__((always_inline))

// Before a loop whose turns are independent although its output may be one of its inputs, element by element.
#if defined(__clang__)
#define VOXGRAD_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define VOXGRAD_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace voxgrad::cpu {

VOXGRAD_INLINE uint32_t bitsOf(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

VOXGRAD_INLINE float floatOf(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// ln 2 in two parts: a whole number below 2^15 times the first is exact.
constexpr float ln2High = 0.693359375f;
constexpr float ln2Low = -2.12194440e-4f;

// e^x, relative error below 2e-7; 0 below -87.3, where floats become denormal, and e^88.3 above 88.3. NaN
// stays NaN.
VOXGRAD_INLINE float expOf(float x) {
  const float bounded = x > 88.3f ? 88.3f : x < -87.3f ? -87.3f : x;
  // Adding 1.5 * 2^23 rounds to a whole number, which the lowest bits of the sum then hold.
  const float shift = 12582912.0f;
  const float shifted = bounded * 1.44269504f + shift;
  const float n = shifted - shift;
  const float r = (bounded - n * ln2High) - n * ln2Low;
  // Taylor to r^7: |r| <= ln 2 / 2 leaves 5e-9.
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  const float power = series * r * r + r + 1.0f;
  const float scale = floatOf((bitsOf(shifted) - bitsOf(shift) + 127u) << 23);
  return x < -87.3f ? 0.0f : power * scale;
}

// ln x of a positive normal float, relative error below 2e-7; NaN for infinity and NaN.
VOXGRAD_INLINE float logOf(float x) {
  // x = m * 2^e with m from sqrt(1/2) to sqrt(2).
  const uint32_t offset = bitsOf(x) - 0x3f3504f3u;
  const float e = static_cast<float>(static_cast<int32_t>(offset) >> 23);
  const float m = floatOf((offset & 0x7fffffu) + 0x3f3504f3u);
  // ln m = 2 artanh s, s = (m - 1) / (m + 1): |s| <= 0.172 leaves 2e-9 behind s^9.
  const float s = (m - 1.0f) / (m + 1.0f), square = s * s;
  float series = 2.0f / 9;
  series = series * square + 2.0f / 7;
  series = series * square + 2.0f / 5;
  series = series * square + 2.0f / 3;
  // x - x is 0, or NaN where there is no logarithm to give.
  return e * ln2High + (e * ln2Low + (series * square * s + 2.0f * s)) + (x - x);
}

// Cosine and sine of 2 pi u for u from 0 to 1, absolute error below 2e-7.
VOXGRAD_INLINE void cosSinOfTurn(float u, float* cosine, float* sine) {
  const float shift = 12582912.0f;
  const float shifted = u * 4.0f + shift;
  const uint32_t quarter = bitsOf(shifted) & 3u;
  const float a = (u - (shifted - shift) * 0.25f) * 6.28318531f, square = a * a;
  // Taylor: |a| <= pi / 4 leaves 2e-9 behind a^9 and 3e-10 behind a^10.
  float s = 1.0f / 362880;
  s = s * square - 1.0f / 5040;
  s = s * square + 1.0f / 120;
  s = s * square - 1.0f / 6;
  s = s * square * a + a;
  float c = -1.0f / 3628800;
  c = c * square + 1.0f / 40320;
  c = c * square - 1.0f / 720;
  c = c * square + 1.0f / 24;
  c = c * square - 0.5f;
  c = c * square + 1.0f;
  const bool swapped = (quarter & 1u) != 0;
  const float first = swapped ? s : c, second = swapped ? c : s;
  *cosine = quarter == 1 || quarter == 2 ? -first : first;
  *sine = quarter >= 2 ? -second : second;
}

}  // namespace voxgrad::cpu
