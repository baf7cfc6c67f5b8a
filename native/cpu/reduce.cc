// Sums over all axes but the channels, and their transpose.
#include <algorithm>

#include "elementwise.h"
#include "isa.h"
#include "kernels.h"
#include "lanes.h"

namespace voxgrad::cpu {

// Rows that one task writes.
static constexpr int64_t chunkRows = 1024;

static int64_t rowsOf(const Tensor& tensor) { return tensor.count() / tensor.channels(); }

static size_t prepareSumToChannels(const Step& step) {
  expectInputs(step, 1, 1);
  const Tensor& x = step.inputs[0];
  expectDType(step, x, DType::f32);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, x.channels());
  return channelSumBytes(Lanes(x.channels()), 1, x.count(), 1);
}

static void runSumToChannels(const Step& step) {
  const Lanes lanes(step.output.count());
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  channelSums<1>(
      lanes, 1, step.inputs[0].count(), step.workspace,
      [&](int64_t begin, int64_t count, double* sums) {
        sumKernels().values(x + begin, count, lanes.width, sums);
      },
      [&](int64_t, const double* totals) {
        for (int64_t c = 0; c < lanes.channels; c++) y[c] = static_cast<float>(totals[c]);
      });
}

static size_t prepareBroadcast(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.inputs[0], step.output.channels());
  return 0;
}

static void runBroadcast(const Step& step) {
  const int64_t channels = step.output.channels();
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  parallelRange(
      rowsOf(step.output),
      [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) std::copy(x, x + channels, y + row * channels);
      },
      chunkRows);
}

const KernelTable reduceKernels = {
    {"sumToChannels", prepareSumToChannels, runSumToChannels},
    {"broadcastChannels", prepareBroadcast, runBroadcast},
};

}  // namespace voxgrad::cpu
