// Loops at the device's limit, for `voxgrad bench`: products of tensor cores in registers, and copies.
#include "../core/stopwatch.h"
#include "cuda.h"
#include "limits.h"
#include "ptx.h"

namespace voxgrad::cuda {
namespace {

constexpr int chains = 8;  // independent products, to hide their latency

__global__ void __launch_bounds__(256) multiplyAddKernel(int64_t iterations, float* sink) {
  float sums[chains][4] = {};
  const uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {4, 5};
  for (int64_t i = 0; i < iterations; i++)
    for (int chain = 0; chain < chains; chain++) multiplyTf32(sums[chain], a, b);
  float total = 0;
  for (int chain = 0; chain < chains; chain++) total += sums[chain][0] + sums[chain][3];
  if (total == 1.0f) *sink = total;
}

// A block of device memory.
class Scratch {
 public:
  Scratch(Backend& backend, size_t bytes) : backend_(backend), data_(backend.allocate(bytes)) {}
  ~Scratch() { backend_.release(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  Backend& backend_;
  void* data_;
};

}  // namespace

LimitTimes measureMultiplyAdd(Backend& backend, int64_t iterations, int64_t runs,
                              const std::atomic<bool>& cancelled) {
  const Grid grid{static_cast<unsigned>(mostBlocks / 4), 256};
  const Scratch sink(backend, sizeof(float));
  LimitTimes times;
  const double warps = static_cast<double>(grid.blocks.x) * grid.threads.x / warpSize;
  times.work = warps * chains * 2 * 16 * 8 * 8 * static_cast<double>(iterations);
  const auto run = [&] {
    LAUNCH(multiplyAddKernel, grid, iterations, static_cast<float*>(sink.data()));
    backend.finish();
  };
  run();
  times.milliseconds = timeRuns(runs, cancelled, run);
  return times;
}

LimitTimes measureCopy(Backend& backend, int64_t bytes, int64_t runs, const std::atomic<bool>& cancelled) {
  const auto size = static_cast<size_t>(bytes);
  const Scratch from(backend, size), to(backend, size);
  LimitTimes times;
  times.work = 2.0 * static_cast<double>(bytes);
  const auto run = [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), size, cudaMemcpyDeviceToDevice, stream()), "copy");
    backend.finish();
  };
  run();
  times.milliseconds = timeRuns(runs, cancelled, run);
  return times;
}

}  // namespace voxgrad::cuda
