// How tensor cores add up: products are exact, but all addends of an instruction lose what lies below the
// largest one's last bit but one, and their sum what a float has no room for. None of it is rounded.
//
// Fasi, Higham, Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores": the A100 keeps that
// bit more than a float has, its predecessor none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace emulation {

// sum + a[0] b[0] + ... + a[N - 1] b[N - 1], of numbers whose products are floats.
template <int N>
float addProducts(float sum, const float* a, const float* b) {
  constexpr int mantissa = 24, guards = 1;
  constexpr uint32_t infinite = 0x7f800000;
  float addends[N];
  uint32_t bits[N], largest;
  for (int i = 0; i < N; i++) addends[i] = a[i] * b[i];
  std::memcpy(bits, addends, sizeof bits);
  std::memcpy(&largest, &sum, sizeof largest);
  // Without their signs floats are in the order of their bits.
  largest &= 0x7fffffff;
  for (int i = 0; i < N; i++) largest = std::max(largest, bits[i] & 0x7fffffff);
  if (largest == 0 || largest >= infinite) {
    for (int i = 0; i < N; i++) sum += addends[i];
    return sum;
  }
  // Such that the largest addend has all of its mantissa in front of the point; of very small ones less.
  int shift = mantissa - 1 + guards + 127 - static_cast<int>(largest >> 23);
  if (shift > 126) shift = 126;
  const uint32_t one = static_cast<uint32_t>(127 + shift) << 23;
  float scale;
  std::memcpy(&scale, &one, sizeof scale);
  int32_t total = static_cast<int32_t>(sum * scale);
  for (int i = 0; i < N; i++) total += static_cast<int32_t>(addends[i] * scale);
  uint32_t magnitude = total < 0 ? 0u - static_cast<uint32_t>(total) : static_cast<uint32_t>(total);
  const int surplus = 32 - mantissa - (magnitude == 0 ? 32 : __builtin_clz(magnitude));
  if (surplus > 0) magnitude = magnitude >> surplus << surplus;
  const float found = static_cast<float>(magnitude) / scale;
  return total < 0 ? -found : found;
}

}  // namespace emulation
