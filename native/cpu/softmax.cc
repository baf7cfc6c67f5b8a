// Softmax and its logarithm over the channels, and their gradients from the output.
#include "elementwise.h"
#include "isa.h"
#include "kernels.h"
#include "rows.h"

namespace voxgrad::cpu {

VOXGRAD_INLINE int blockAt(const SoftmaxRows& s, int64_t row) {
  return static_cast<int>(s.rows - row < blockRows ? s.rows - row : blockRows);
}

template <int C>
VOXGRAD_INLINE void logSoftmaxBody(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float block[blockFloats<C>], largest[blockRows], total[blockRows];
  for (int64_t row = 0; row < s.rows; row += blockRows) {
    const int rows = blockAt(s, row);
    loadRows<C>(s.a + row * count, count, rows, block);
    rowMaxima<C>(block, count, largest);
    rowExponentials<C>(block, count, 1.0f, largest, total, nullptr);
    for (int r = 0; r < blockRows; r++) total[r] = logOf(total[r]);
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++)
        block[c * blockRows + r] = (block[c * blockRows + r] - largest[r]) - total[r];
    storeRows<C>(block, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(logSoftmax, SoftmaxRows)

// dx = dy - exp(y) * sum over c of dy
template <int C>
VOXGRAD_INLINE void logSoftmaxGradientBody(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float y[blockFloats<C>], dy[blockFloats<C>], total[blockRows];
  for (int64_t row = 0; row < s.rows; row += blockRows) {
    const int rows = blockAt(s, row);
    loadRows<C>(s.a + row * count, count, rows, y);
    loadRows<C>(s.b + row * count, count, rows, dy);
    for (int r = 0; r < blockRows; r++) total[r] = 0;
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) total[r] += dy[c * blockRows + r];
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) dy[c * blockRows + r] -= expOf(y[c * blockRows + r]) * total[r];
    storeRows<C>(dy, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(logSoftmaxGradient, SoftmaxRows)

static void runRows(const Step& step, void (*kernel)(const SoftmaxRows&), float factor) {
  const int channels = static_cast<int>(step.output.channels());
  const float* a = step.inputs[0].f32();
  const float* b = step.inputs.size() > 1 ? step.inputs[1].f32() : a;
  float* y = step.output.f32();
  parallelRange(
      rowsOf(step.output),
      [=](int64_t begin, int64_t end) {
        const int64_t at = begin * channels;
        SoftmaxRows part = {};
        part.a = a + at;
        part.b = b + at;
        part.y = y + at;
        part.rows = end - begin;
        part.channels = channels;
        part.factor = factor;
        kernel(part);
      },
      taskRows);
}

static void checkRows(const Step& step, size_t inputs) {
  expectInputs(step, inputs, inputs);
  expectDType(step, step.output, DType::f32);
  expectFewChannels(step, step.output);
  for (const Tensor& input : step.inputs) {
    expectDType(step, input, DType::f32);
    expectSameShape(step, input, step.output);
  }
}

static float factorOf(const Step& step) {
  return static_cast<float>(1.0 / step.attributes.number("temperature"));
}

static size_t prepareSoftmax(const Step& step) {
  checkRows(step, 1);
  factorOf(step);
  return 0;
}

static size_t prepareSoftmaxGradient(const Step& step) {
  checkRows(step, 2);
  factorOf(step);
  return 0;
}

static size_t prepareLogSoftmax(const Step& step) {
  checkRows(step, 1);
  return 0;
}

static size_t prepareLogSoftmaxGradient(const Step& step) {
  checkRows(step, 2);
  return 0;
}

static void runSoftmax(const Step& step) { runRows(step, softmaxRowKernels().softmax, factorOf(step)); }
static void runSoftmaxGradient(const Step& step) {
  runRows(step, softmaxRowKernels().softmaxGradient, factorOf(step));
}
static void runLogSoftmax(const Step& step) { runRows(step, logSoftmax, 1); }
static void runLogSoftmaxGradient(const Step& step) { runRows(step, logSoftmaxGradient, 1); }

const KernelTable softmaxKernels = {
    {"softmax", prepareSoftmax, runSoftmax},
    {"softmaxGradient", prepareSoftmaxGradient, runSoftmaxGradient},
    {"logSoftmax", prepareLogSoftmax, runLogSoftmax},
    {"logSoftmaxGradient", prepareLogSoftmaxGradient, runLogSoftmaxGradient},
};

}  // namespace voxgrad::cpu
