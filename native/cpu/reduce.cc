// Sums over all axes but the channels, and their transpose.
#include <algorithm>

#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

// Rows of one partial sum: a fixed number, so that the order of additions depends on the shape alone.
static constexpr int64_t chunkRows = 1024;

static int64_t rowsOf(const Tensor& tensor) { return tensor.count() / tensor.channels(); }

static size_t prepareSumToChannels(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, step.inputs[0].channels());
  const int64_t chunks = (rowsOf(step.inputs[0]) + chunkRows - 1) / chunkRows;
  return static_cast<size_t>(chunks * step.output.count()) * sizeof(double);
}

static void runSumToChannels(const Step& step) {
  const int64_t rows = rowsOf(step.inputs[0]), channels = step.output.count();
  const float* x = step.inputs[0].f32();
  double* partial = static_cast<double*>(step.workspace);
  parallelRange(
      rows,
      [=](int64_t begin, int64_t end) {
        double* sums = partial + begin / chunkRows * channels;
        std::fill(sums, sums + channels, 0.0);
        for (int64_t row = begin; row < end; row++)
          for (int64_t c = 0; c < channels; c++) sums[c] += x[row * channels + c];
      },
      chunkRows);
  float* y = step.output.f32();
  for (int64_t c = 0; c < channels; c++) {
    double total = 0;
    for (int64_t row = 0; row < rows; row += chunkRows) total += partial[row / chunkRows * channels + c];
    y[c] = static_cast<float>(total);
  }
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
