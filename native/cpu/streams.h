// Results that fit into no cache are stored past them: a line that is written as a whole need not be read,
// and does not displace what is read next.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace voxgrad::cpu {

// Whether a result of so many floats is read back from memory anyway.
inline bool outgrowsCaches(int64_t floats) { return floats >= (1 << 22); }

inline bool beginsLine(const float* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

// Ends a task that stored past the caches: whoever waits for it sees these stores.
inline void settleStreams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace voxgrad::cpu
