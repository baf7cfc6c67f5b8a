// Times of repeated runs, for `voxgrad bench`.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "tensor.h"

namespace voxgrad {

// Milliseconds of each of `runs` calls. Throws Error("ERR_ABORTED") between calls once cancelled.
// `before` is called before each of them and is not timed.
template <typename Run, typename Before>
std::vector<double> timeRuns(int64_t runs, const std::atomic<bool>& cancelled, Run&& run, Before&& before) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  for (int64_t i = 0; i < runs; i++) {
    if (cancelled.load(std::memory_order_relaxed))
      throw Error("ERR_ABORTED", "the measurement was cancelled");
    before();
    const auto began = Clock::now();
    run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - began).count());
  }
  return milliseconds;
}

template <typename Run>
std::vector<double> timeRuns(int64_t runs, const std::atomic<bool>& cancelled, Run&& run) {
  return timeRuns(runs, cancelled, run, [] {});
}

}  // namespace voxgrad
