// Neighbouring floats that are moved at once.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

template <int each>
struct Floats {
  float of[each];
};
template <>
struct alignas(8) Floats<2> {
  float of[2];
};
template <>
struct alignas(16) Floats<4> {
  float of[4];
};

}  // namespace voxgrad::cuda
