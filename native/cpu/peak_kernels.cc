// Loops at the limit of the processor. Compiled once per instruction set; see simd.h.
#include "peak_kernels.h"

#include "simd.h"
#include "streams.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Two ports with a latency of four cycles keep eight in flight; the rest is slack. All fit into registers
// beside the two factors.
constexpr int kChains = kLanes == 16 ? 24 : 12;

void multiplyAdd(int64_t iterations, float* sink) {
  // Read from memory, so that the compiler cannot fold the recurrence; it converges to offset / (1 - factor).
  const volatile float numbers[2] = {0.999f, 0.001f};
  const vfloat factor = numbers[0] - vfloat{};
  const vfloat offset = numbers[1] - vfloat{};
  vfloat chains[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) chains[i] = offset * static_cast<float>(i);
  for (int64_t k = 0; k < iterations; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chains[i] = chains[i] * factor + offset;
  }
  vfloat sum = chains[0];
#pragma GCC unroll 24
  for (int i = 1; i < kChains; ++i) sum += chains[i];
  *sink = sum[0];
}

void copy(float* to, const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i));
}

void copyPast(float* to, const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) stream(to + i, load(from + i));
  settleStreams();
}

}  // namespace

const PeakKernels& peakKernels() {
  static const PeakKernels kernels = {multiplyAdd, 2 * kChains * kLanes, copy, copyPast};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
