// Between the types in which numbers are stored.
#pragma once

#include "bf16.h"

namespace voxgrad::cuda {

void castElements(const float* from, Bf16* to, int64_t count);
void castElements(const Bf16* from, float* to, int64_t count);

}  // namespace voxgrad::cuda
