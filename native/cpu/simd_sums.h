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

// One double to a lane.
typedef double vwide __attribute__((vector_size(8 * kLanes)));

template <typename V>
VOXGRAD_INLINE void addWide(V v, vwide* sum) {
  *sum += __builtin_convertvector(v, vwide);
}

VOXGRAD_INLINE double totalOf(const vwide& lanes) {
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += lanes[lane];
  return total;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
