// Sums of vectors in double precision; see simd.h.
#pragma once

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

VOXGRAD_INLINE void addLanes(double* totals, vfloat v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < kLanes; ++i) totals[i] += lanes[i];
}

VOXGRAD_INLINE double totalOf(const double* totals) {
  double total = 0;
  for (int i = 0; i < kLanes; ++i) total += totals[i];
  return total;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
