// Results that fit into no cache are stored past them: a line that is written as a whole need not be read,
// and does not displace what is read next.
#pragma once

#include <cstdint>
#include <initializer_list>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace voxgrad::cpu {

// Whether a result of so many floats is stored past the caches: it is read back from memory anyway, and where
// its vectors lie at multiples of these distances they make up whole lines.
inline bool storesPast(const float* result, int64_t floats, std::initializer_list<int64_t> distances) {
  constexpr int64_t kLeastFloats = 1 << 22, kLine = 64;
  if (floats < kLeastFloats || reinterpret_cast<uintptr_t>(result) % kLine != 0) return false;
  for (int64_t distance : distances)
    if (distance * static_cast<int64_t>(sizeof(float)) % kLine != 0) return false;
  return true;
}

// Ends a task that stored past the caches: whoever waits for it sees these stores.
inline void settleStreams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace voxgrad::cpu
