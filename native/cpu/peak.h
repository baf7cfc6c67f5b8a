// What the machine can do at most, measured on the thread pool that the kernels use.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace voxgrad::cpu {

struct PeakTimes {
  double work = 0;  // of one run on all threads: floating-point operations, or bytes read and written
  std::vector<double> milliseconds;
};

// `iterations` of multiply-adds in every thread. Throws Error("ERR_ABORTED") between runs when cancelled.
PeakTimes measureMultiplyAdd(int64_t iterations, int64_t runs, const std::atomic<bool>& cancelled);

// Copies `bytes`, rounded up to whole blocks per thread, with ordinary stores or past the caches.
PeakTimes measureCopy(int64_t bytes, bool streaming, int64_t runs, const std::atomic<bool>& cancelled);

}  // namespace voxgrad::cpu
