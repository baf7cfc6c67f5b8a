// Neighbouring floats that are moved at once.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

template <int each>
struct alignas(each % 4 == 0   ? 16
               : each % 2 == 0 ? 8
                               : 4) Floats {
  float of[each];
};

}  // namespace voxgrad::cuda
