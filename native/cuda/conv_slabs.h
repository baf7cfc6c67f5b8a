// Weight gradients of slabs of voxels, added.
#pragma once

#include <cstdint>

namespace voxgrad::cuda {

// dw = the sum of `slabs` partial gradients of `count` numbers, in order.
void addSlabs(const float* partial, int64_t slabs, int64_t count, float* dw);

}  // namespace voxgrad::cuda
