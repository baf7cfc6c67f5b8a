// bfloat16, the upper half of a float, by its bits.
#pragma once

#include <cstdint>
#include <cstring>

namespace voxgrad {

// The nearest one, ties to even; NaN becomes the NaN 0x7fff.
inline uint16_t bf16Of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float floatOfBf16(uint16_t half) {
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace voxgrad
