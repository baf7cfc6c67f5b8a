// What the device can do at most.
#pragma once

#include "../core/backend.h"

namespace voxgrad::cuda {

// `iterations` of products of tensor cores (TF32) in every warp of a grid that fills the device.
LimitTimes measureMultiplyAdd(Backend& backend, int64_t iterations, int64_t runs,
                              const std::atomic<bool>& cancelled);

LimitTimes measureCopy(Backend& backend, int64_t bytes, int64_t runs, const std::atomic<bool>& cancelled);

}  // namespace voxgrad::cuda
