// Sums of neighbouring outputs over neighbouring taps. Only for sources that are compiled once per
// instruction set; see simd.h.
#pragma once

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

// Adds what Taps taps read to the sums of the outputs that read it. `loadPlace(i)` is what the first tap
// reads for output i, and the next tap for output i - 1.
template <int Taps, int Outputs, typename Load>
VOXGRAD_INLINE void addTaps(vfloat (&sums)[Outputs], const float* tapWeights, int64_t nextTap,
                            Load loadPlace) {
  vfloat weights[Taps];
#pragma GCC unroll 3
  for (int tap = 0; tap < Taps; ++tap) weights[tap] = load(tapWeights + tap * nextTap);
#pragma GCC unroll 12
  for (int i = 0; i < Outputs + Taps - 1; ++i) {
    const vfloat source = loadPlace(i);
#pragma GCC unroll 3
    for (int tap = 0; tap < Taps; ++tap) {
      if (i >= tap && i - tap < Outputs) multiplyAdd(&sums[i - tap], source, weights[tap]);
    }
  }
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
