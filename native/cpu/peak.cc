#include "peak.h"

#include <algorithm>

#include "../core/memory.h"
#include "../core/stopwatch.h"
#include "../core/thread_pool.h"
#include "isa.h"

namespace voxgrad::cpu {

LimitTimes measureMultiplyAdd(int64_t iterations, int64_t runs, const std::atomic<bool>& cancelled) {
  const PeakKernels& kernels = peakKernels();
  const int threads = ThreadPool::shared().size();
  std::vector<float> sinks(threads);
  LimitTimes times;
  times.work = static_cast<double>(kernels.operations) * static_cast<double>(iterations) * threads;
  times.milliseconds = timeRuns(runs, cancelled, [&] {
    parallelFor(threads, [&](int64_t i) { kernels.multiplyAdd(iterations, &sinks[i]); });
  });
  return times;
}

LimitTimes measureCopy(int64_t bytes, bool streaming, int64_t runs, const std::atomic<bool>& cancelled) {
  // A whole number of the longest vectors for every thread, so that no copy has a tail.
  constexpr int64_t granule = Backend::alignment / sizeof(float);
  const PeakKernels& kernels = peakKernels();
  const int threads = ThreadPool::shared().size();
  const int64_t floats = std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)));
  const int64_t share = (floats / threads / granule + 1) * granule;
  Block from(cpuBackend(), share * threads * sizeof(float));
  Block to(cpuBackend(), share * threads * sizeof(float));
  float* source = reinterpret_cast<float*>(from.data());
  float* target = reinterpret_cast<float*>(to.data());
  // Written once: pages that were never written can all be the same page of zeros.
  parallelFor(threads, [&](int64_t i) { std::fill_n(source + i * share, share, 0.5f); });
  const auto copy = streaming ? kernels.stream : kernels.copy;
  LimitTimes times;
  times.work = 2.0 * static_cast<double>(share * threads) * sizeof(float);
  const auto run = [&] {
    parallelFor(threads, [&](int64_t i) { copy(target + i * share, source + i * share, share); });
  };
  run();
  times.milliseconds = timeRuns(runs, cancelled, run);
  return times;
}

}  // namespace voxgrad::cpu
