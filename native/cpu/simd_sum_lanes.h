// Sums over the lanes of vectors. Only for sources that are compiled once per instruction set; see simd.h.
#pragma once

#include "simd.h"

// clang-format off
#if VOXGRAD_LANES == 16
#define VOXGRAD_EVEN_QUADS 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define VOXGRAD_ODD_QUADS 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#elif VOXGRAD_LANES == 8
#define VOXGRAD_EVEN_QUADS 0, 1, 2, 3, 8, 9, 10, 11
#define VOXGRAD_ODD_QUADS 4, 5, 6, 7, 12, 13, 14, 15
#else
#define VOXGRAD_EVEN_QUADS VOXGRAD_EVEN
#define VOXGRAD_ODD_QUADS VOXGRAD_ODD
#endif
// clang-format on

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

// The lanes of each of Count vectors, from `first` on, are summed into the lanes of one, in order: first
// those of four lanes, which every instruction set shuffles fastest, then the quads.
template <int Count, typename Products>
VOXGRAD_INLINE vfloat sumLanes(const Products& products, int first) {
  if constexpr (Count == 1) {
    return products(first);
  } else {
    const vfloat a = sumLanes<Count / 2>(products, first);
    const vfloat b = sumLanes<Count / 2>(products, first + Count / 2);
    if constexpr (Count <= 4) {
      return VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN_INSIDE) + VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD_INSIDE);
    } else {
      return VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN_QUADS) + VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD_QUADS);
    }
  }
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
