// What the machine can do at most, measured on the thread pool that the kernels use.
#pragma once

#include <atomic>
#include <cstdint>

#include "../core/backend.h"

namespace voxgrad::cpu {

// `iterations` of multiply-adds in every thread. Throws Error("ERR_ABORTED") between runs when cancelled.
LimitTimes measureMultiplyAdd(int64_t iterations, int64_t runs, const std::atomic<bool>& cancelled);

// Copies `bytes`, rounded up to whole blocks per thread, with ordinary stores or past the caches.
LimitTimes measureCopy(int64_t bytes, bool streaming, int64_t runs, const std::atomic<bool>& cancelled);

}  // namespace voxgrad::cpu
