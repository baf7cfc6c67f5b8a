// The label of the largest channel, and where two label maps differ.
#include <algorithm>

#include "clones.h"
#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

// The first maximum wins.
static void argmaxRows(const float* x, int64_t rows, int64_t channels, uint8_t* y) {
  for (int64_t row = 0; row < rows; row++, x += channels) {
    float best = x[0];
    int64_t index = 0;
    for (int64_t c = 1; c < channels; c++) {
      index = x[c] > best ? c : index;
      best = x[c] > best ? x[c] : best;
    }
    y[row] = static_cast<uint8_t>(index);
  }
}

VOXGRAD_CLONES static void argmaxPairs(const float* __restrict x, int64_t rows, uint8_t* __restrict y) {
  for (int64_t row = 0; row < rows; row++) y[row] = x[2 * row + 1] > x[2 * row];
}

static size_t prepareArgmax(const Step& step) {
  expectInputs(step, 1, 1);
  const Tensor& x = step.inputs[0];
  expectDType(step, x, DType::f32);
  expectDType(step, step.output, DType::u8);
  if (x.channels() > 256) refuse(step, "at most 256 channels");
  expectCount(step, step.output, x.count() / x.channels());
  return 0;
}

static void runArgmax(const Step& step) {
  const int64_t channels = step.inputs[0].channels();
  const float* x = step.inputs[0].f32();
  uint8_t* y = step.output.u8();
  parallelRange(
      step.output.count(),
      [=](int64_t begin, int64_t end) {
        if (channels == 2)
          argmaxPairs(x + 2 * begin, end - begin, y + begin);
        else
          argmaxRows(x + begin * channels, end - begin, channels, y + begin);
      },
      std::max<int64_t>(1, chunkElements / channels));
}

static size_t prepareNotEqual(const Step& step) {
  expectInputs(step, 2, 2);
  for (const Tensor& input : step.inputs) {
    expectDType(step, input, DType::u8);
    expectSameShape(step, input, step.output);
  }
  expectDType(step, step.output, DType::u8);
  return 0;
}

// y may be a.
VOXGRAD_CLONES static void notEqualChunk(const uint8_t* a, const uint8_t* b, int64_t count, uint8_t* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; i++) y[i] = a[i] != b[i];
}

static void runNotEqual(const Step& step) {
  const uint8_t *a = step.inputs[0].u8(), *b = step.inputs[1].u8();
  uint8_t* y = step.output.u8();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    notEqualChunk(a + begin, b + begin, end - begin, y + begin);
  });
}

const KernelTable argmaxKernels = {
    {"argmax", prepareArgmax, runArgmax},
    {"notEqual", prepareNotEqual, runNotEqual},
};

}  // namespace voxgrad::cpu
