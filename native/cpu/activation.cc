// Rectifiers and their gradients. Comparisons are written so that NaN passes through.
#include "clones.h"
#include "elementwise.h"
#include "kernels.h"
#include "lanes.h"

namespace voxgrad::cpu {

static void prepareFloats(const Step& step, size_t inputs) {
  expectInputs(step, inputs, inputs);
  for (const Tensor& input : step.inputs) expectDType(step, input, DType::f32);
  expectDType(step, step.output, DType::f32);
}

// y may be x, here and below.
VOXGRAD_CLONES static void reluChunk(const float* x, int64_t count, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; i++) y[i] = x[i] < 0 ? 0.0f : x[i];
}

// dx may be dy, here and below.
VOXGRAD_CLONES static void reluGradientChunk(const float* y, const float* dy, int64_t count, float* dx) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; i++) dx[i] = y[i] > 0 ? dy[i] : 0.0f;
}

VOXGRAD_CLONES static void leakyReluChunk(const float* x, int64_t count, float slope, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; i++) y[i] = x[i] < 0 ? slope * x[i] : x[i];
}

VOXGRAD_CLONES static void leakyReluGradientChunk(const float* y, const float* dy, int64_t count, float slope,
                                                  float* dx) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; i++) dx[i] = y[i] > 0 ? dy[i] : slope * dy[i];
}

static size_t prepareRelu(const Step& step) {
  prepareFloats(step, 1);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static size_t prepareLeakyRelu(const Step& step) {
  step.attributes.number("slope");
  return prepareRelu(step);
}

static void runRelu(const Step& step) {
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  parallelRange(step.output.count(),
                [=](int64_t begin, int64_t end) { reluChunk(x + begin, end - begin, y + begin); });
}

static void runLeakyRelu(const Step& step) {
  const float slope = static_cast<float>(step.attributes.number("slope"));
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    leakyReluChunk(x + begin, end - begin, slope, y + begin);
  });
}

static size_t prepareReluGradient(const Step& step) {
  prepareFloats(step, 2);
  for (const Tensor& input : step.inputs) expectSameShape(step, input, step.output);
  return 0;
}

static size_t prepareLeakyReluGradient(const Step& step) {
  step.attributes.number("slope");
  return prepareReluGradient(step);
}

static void runReluGradient(const Step& step) {
  const float *y = step.inputs[0].f32(), *dy = step.inputs[1].f32();
  float* dx = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    reluGradientChunk(y + begin, dy + begin, end - begin, dx + begin);
  });
}

static void runLeakyReluGradient(const Step& step) {
  const float slope = static_cast<float>(step.attributes.number("slope"));
  const float *y = step.inputs[0].f32(), *dy = step.inputs[1].f32();
  float* dx = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    leakyReluGradientChunk(y + begin, dy + begin, end - begin, slope, dx + begin);
  });
}

VOXGRAD_CLONES static void preluChunk(const float* x, int64_t count, int64_t width,
                                      const float* __restrict slope, float* y) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++) y[i + j] = x[i + j] < 0 ? slope[j] * x[i + j] : x[i + j];
  }
}

VOXGRAD_CLONES static void preluGradientChunk(const float* x, const float* dy, int64_t count, int64_t width,
                                              const float* __restrict slope, float* dx) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++) dx[i + j] = x[i + j] > 0 ? dy[i + j] : slope[j] * dy[i + j];
  }
}

VOXGRAD_CLONES static void addSlopeGradients(const float* __restrict x, const float* __restrict dy,
                                             int64_t count, int64_t width, double* __restrict sum) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
    for (int64_t j = 0; j < n; j++) {
      sum[j] += x[i + j] > 0 ? 0.0f : x[i + j] * dy[i + j];
    }
  }
}

// The slopes, one for each channel or one for all, as a row of lanes.
static const float* spreadSlopes(const Lanes& lanes, const Tensor& slope, void* workspace) {
  float* row = static_cast<float*>(workspace);
  const int64_t slopes = slope.count();
  for (int64_t j = 0; j < lanes.width; j++) row[j] = slope.f32()[j % lanes.channels % slopes];
  return row;
}

static size_t slopeBytes(const Step& step, const Tensor& slope) {
  const int64_t channels = step.output.channels();
  if (slope.count() != 1) expectCount(step, slope, channels);
  return static_cast<size_t>(Lanes(channels).width) * sizeof(float);
}

static size_t preparePrelu(const Step& step) {
  prepareFloats(step, 2);
  expectSameShape(step, step.inputs[0], step.output);
  return slopeBytes(step, step.inputs[1]);
}

static void runPrelu(const Step& step) {
  const Lanes lanes(step.output.channels());
  const float* slope = spreadSlopes(lanes, step.inputs[1], step.workspace);
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  forEachChunk(lanes, 1, step.output.count(), [&](int64_t, int64_t begin, int64_t count, int64_t) {
    preluChunk(x + begin, count, lanes.width, slope, y + begin);
  });
}

static size_t preparePreluInputGradient(const Step& step) {
  prepareFloats(step, 3);
  expectSameShape(step, step.inputs[0], step.output);
  expectSameShape(step, step.inputs[2], step.output);
  return slopeBytes(step, step.inputs[1]);
}

static void runPreluInputGradient(const Step& step) {
  const Lanes lanes(step.output.channels());
  const float* slope = spreadSlopes(lanes, step.inputs[1], step.workspace);
  const float *x = step.inputs[0].f32(), *dy = step.inputs[2].f32();
  float* dx = step.output.f32();
  forEachChunk(lanes, 1, step.output.count(), [&](int64_t, int64_t begin, int64_t count, int64_t) {
    preluGradientChunk(x + begin, dy + begin, count, lanes.width, slope, dx + begin);
  });
}

static size_t preparePreluSlopeGradient(const Step& step) {
  prepareFloats(step, 2);
  const Tensor& x = step.inputs[0];
  expectSameShape(step, x, step.inputs[1]);
  if (step.output.count() != 1) expectCount(step, step.output, x.channels());
  return channelSumBytes(Lanes(x.channels()), 1, x.count(), 1);
}

static void runPreluSlopeGradient(const Step& step) {
  const Lanes lanes(step.inputs[0].channels());
  const int64_t slopes = step.output.count();
  const float *x = step.inputs[0].f32(), *dy = step.inputs[1].f32();
  float* y = step.output.f32();
  channelSums<1>(
      lanes, 1, step.inputs[0].count(), step.workspace,
      [&](int64_t begin, int64_t count, double* sums) {
        addSlopeGradients(x + begin, dy + begin, count, lanes.width, sums);
      },
      [&](int64_t, double* totals) {
        for (int64_t c = slopes; c < lanes.channels; c++) totals[0] += totals[c];
        for (int64_t c = 0; c < slopes; c++) y[c] = static_cast<float>(totals[c]);
      });
}

const KernelTable activationKernels = {
    {"relu", prepareRelu, runRelu},
    {"reluGradient", prepareReluGradient, runReluGradient},
    {"leakyRelu", prepareLeakyRelu, runLeakyRelu},
    {"leakyReluGradient", prepareLeakyReluGradient, runLeakyReluGradient},
    {"prelu", preparePrelu, runPrelu},
    {"preluInputGradient", preparePreluInputGradient, runPreluInputGradient},
    {"preluSlopeGradient", preparePreluSlopeGradient, runPreluSlopeGradient},
};

}  // namespace voxgrad::cpu
