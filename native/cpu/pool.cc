// Max and average pooling over windows, the mean over space, and their gradients. Gradients gather: a task
// owns the rows of the input gradient that it writes and visits the windows that reach them.
#include <algorithm>

#include "clones.h"
#include "elementwise.h"
#include "kernels.h"
#include "lanes.h"

namespace voxgrad::cpu {

namespace {

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

struct Axis {
  int64_t in, out, kernel, stride, padding;

  // Where the window of an output index lies within the input.
  Range taps(int64_t index) const {
    const int64_t begin = index * stride - padding;
    return {std::max<int64_t>(begin, 0), std::min(begin + kernel, in)};
  }
  // The output indices whose windows meet [begin, end) of the input.
  Range windows(int64_t begin, int64_t end) const {
    const int64_t first = begin + padding - kernel + 1;
    return {first <= 0 ? 0 : (first + stride - 1) / stride, std::min(out, (end - 1 + padding) / stride + 1)};
  }
};

struct Pool {
  int64_t samples, channels;
  Axis d, h, w;

  // Throws unless every window of the `small` tensor meets the `large` one.
  Pool(const Step& step, const Tensor& large, const Tensor& small) {
    for (const Tensor* each : {&large, &small}) {
      expectDType(step, *each, DType::f32);
      expectRank(step, *each, 5);
    }
    samples = large.shape[0];
    channels = large.shape[4];
    if (small.shape[0] != samples || small.shape[4] != channels) refuse(step, "samples or channels differ");
    const auto kernel = step.attributes.integers("kernel", 3), stride = step.attributes.integers("stride", 3),
               padding = step.attributes.integers("padding", 3);
    Axis* axes[] = {&d, &h, &w};
    for (int i = 0; i < 3; i++) {
      Axis& axis = *axes[i];
      axis = {large.shape[i + 1], small.shape[i + 1], kernel[i], stride[i], padding[i]};
      if (axis.kernel < 1 || axis.kernel > 1024 || axis.stride < 1 || axis.stride > 32768 ||
          axis.padding < 0 || axis.padding * 2 > axis.kernel || axis.in + 2 * axis.padding < axis.kernel ||
          axis.out != (axis.in + 2 * axis.padding - axis.kernel) / axis.stride + 1)
        refuse(step, "kernel, stride and padding of axis " + std::to_string(i) + " do not fit");
    }
  }

  int64_t inputLine(int64_t n, int64_t z, int64_t y) const {
    return ((n * d.in + z) * h.in + y) * w.in * channels;
  }
  int64_t outputLine(int64_t n, int64_t z, int64_t y) const {
    return ((n * d.out + z) * h.out + y) * w.out * channels;
  }
};

}  // namespace

// The first of equal values wins, and NaN wins over all, in maxLine and scatterLine alike.
static inline bool beats(float value, float best) { return value > best || value != value; }

// One line of outputs; x is the sample.
VOXGRAD_CLONES static void maxLine(const Pool& pool, const float* __restrict x, Range ds, Range hs,
                                   float* __restrict y) {
  const int64_t channels = pool.channels;
  for (int64_t q = 0; q < pool.w.out; q++, y += channels) {
    const Range ws = pool.w.taps(q);
    bool first = true;
    for (int64_t d = ds.begin; d < ds.end; d++)
      for (int64_t h = hs.begin; h < hs.end; h++)
        for (int64_t w = ws.begin; w < ws.end; w++) {
          const float* tap = x + ((d * pool.h.in + h) * pool.w.in + w) * channels;
          if (first)
            for (int64_t c = 0; c < channels; c++) y[c] = tap[c];
          else
            for (int64_t c = 0; c < channels; c++) y[c] = beats(tap[c], y[c]) ? tap[c] : y[c];
          first = false;
        }
  }
}

static size_t prepareMaxPool(const Step& step) {
  expectInputs(step, 1, 1);
  Pool(step, step.inputs[0], step.output);
  return 0;
}

static void runMaxPool(const Step& step) {
  const Pool pool(step, step.inputs[0], step.output);
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  parallelFor(pool.samples * pool.d.out * pool.h.out, [&](int64_t line) {
    const int64_t p = line % pool.h.out, z = line / pool.h.out % pool.d.out,
                  n = line / pool.h.out / pool.d.out;
    maxLine(pool, x + pool.inputLine(n, 0, 0), pool.d.taps(z), pool.h.taps(p), y + pool.outputLine(n, z, p));
  });
}

// Adds the gradients of one line of outputs to those of their maxima that lie in plane `d`, rows `rows`, of
// dx.
VOXGRAD_CLONES static void scatterLine(const Pool& pool, const float* __restrict x,
                                       const float* __restrict dy, Range ds, Range hs, int64_t d, Range rows,
                                       float* __restrict dx) {
  constexpr int64_t block = 64;
  const int64_t channels = pool.channels;
  const int64_t h0 = hs.begin > rows.begin ? hs.begin : rows.begin,
                h1 = hs.end < rows.end ? hs.end : rows.end;
  for (int64_t q = 0; q < pool.w.out; q++) {
    const Range ws = pool.w.taps(q);
    for (int64_t c0 = 0; c0 < channels; c0 += block) {
      const int64_t n = channels - c0 < block ? channels - c0 : block;
      float best[block];
      int32_t argument[block];
      int32_t tap = 0;
      for (int64_t i = ds.begin; i < ds.end; i++)
        for (int64_t j = hs.begin; j < hs.end; j++)
          for (int64_t k = ws.begin; k < ws.end; k++, tap++) {
            const float* values = x + ((i * pool.h.in + j) * pool.w.in + k) * channels + c0;
            for (int64_t c = 0; c < n; c++) {
              const bool better = tap == 0 || beats(values[c], best[c]);
              best[c] = better ? values[c] : best[c];
              argument[c] = better ? tap : argument[c];
            }
          }
      const float* gradient = dy + q * channels + c0;
      for (int64_t j = h0; j < h1; j++)
        for (int64_t k = ws.begin; k < ws.end; k++) {
          tap = static_cast<int32_t>(((d - ds.begin) * hs.size() + j - hs.begin) * ws.size() + k - ws.begin);
          float* target = dx + ((d * pool.h.in + j) * pool.w.in + k) * channels + c0;
          for (int64_t c = 0; c < n; c++) target[c] += argument[c] == tap ? gradient[c] : 0.0f;
        }
    }
  }
}

static size_t prepareMaxPoolGradient(const Step& step) {
  expectInputs(step, 2, 2);
  Pool(step, step.inputs[0], step.inputs[1]);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static void runMaxPoolGradient(const Step& step) {
  const Pool pool(step, step.inputs[0], step.inputs[1]);
  const float *x = step.inputs[0].f32(), *dy = step.inputs[1].f32();
  float* dx = step.output.f32();
  // A slab of rows of one plane is a task: windows that straddle slabs are searched once for each.
  constexpr int64_t slab = 16;
  const int64_t slabs = (pool.h.in + slab - 1) / slab;
  parallelFor(pool.samples * pool.d.in * slabs, [&](int64_t task) {
    const int64_t d = task / slabs % pool.d.in, n = task / slabs / pool.d.in;
    const Range rows = {task % slabs * slab, std::min(pool.h.in, (task % slabs + 1) * slab)};
    std::fill(dx + pool.inputLine(n, d, rows.begin), dx + pool.inputLine(n, d, rows.end), 0.0f);
    const Range zs = pool.d.windows(d, d + 1), ps = pool.h.windows(rows.begin, rows.end);
    const int64_t sample = pool.inputLine(n, 0, 0);
    for (int64_t z = zs.begin; z < zs.end; z++)
      for (int64_t p = ps.begin; p < ps.end; p++)
        scatterLine(pool, x + sample, dy + pool.outputLine(n, z, p), pool.d.taps(z), pool.h.taps(p), d, rows,
                    dx + sample);
  });
}

// What the sum over a window is divided by, as a factor.
static float averageFactor(const Pool& pool, bool countPadding, Range ds, Range hs, Range ws) {
  const int64_t count =
      countPadding ? pool.d.kernel * pool.h.kernel * pool.w.kernel : ds.size() * hs.size() * ws.size();
  return 1.0f / static_cast<float>(count);
}

VOXGRAD_CLONES static void addScaled(const float* __restrict x, int64_t count, float factor,
                                     float* __restrict y) {
  for (int64_t i = 0; i < count; i++) y[i] += factor * x[i];
}

static size_t prepareAveragePool(const Step& step) {
  expectInputs(step, 1, 1);
  step.attributes.flag("countIncludePad");
  Pool(step, step.inputs[0], step.output);
  return 0;
}

static void runAveragePool(const Step& step) {
  const Pool pool(step, step.inputs[0], step.output);
  const bool countPadding = step.attributes.flag("countIncludePad");
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  const int64_t channels = pool.channels;
  parallelFor(pool.samples * pool.d.out * pool.h.out, [&](int64_t line) {
    const int64_t p = line % pool.h.out, z = line / pool.h.out % pool.d.out,
                  n = line / pool.h.out / pool.d.out;
    const Range ds = pool.d.taps(z), hs = pool.h.taps(p);
    float* target = y + pool.outputLine(n, z, p);
    std::fill(target, target + pool.w.out * channels, 0.0f);
    for (int64_t q = 0; q < pool.w.out; q++, target += channels) {
      const Range ws = pool.w.taps(q);
      const float factor = averageFactor(pool, countPadding, ds, hs, ws);
      for (int64_t d = ds.begin; d < ds.end; d++)
        for (int64_t h = hs.begin; h < hs.end; h++)
          for (int64_t w = ws.begin; w < ws.end; w++)
            addScaled(x + pool.inputLine(n, d, h) + w * channels, channels, factor, target);
    }
  });
}

static size_t prepareAveragePoolGradient(const Step& step) {
  expectInputs(step, 1, 1);
  step.attributes.flag("countIncludePad");
  Pool(step, step.output, step.inputs[0]);
  return 0;
}

static void runAveragePoolGradient(const Step& step) {
  const Pool pool(step, step.output, step.inputs[0]);
  const bool countPadding = step.attributes.flag("countIncludePad");
  const float* dy = step.inputs[0].f32();
  float* dx = step.output.f32();
  const int64_t channels = pool.channels;
  parallelFor(pool.samples * pool.d.in * pool.h.in, [&](int64_t line) {
    const int64_t h = line % pool.h.in, d = line / pool.h.in % pool.d.in, n = line / pool.h.in / pool.d.in;
    float* target = dx + pool.inputLine(n, d, h);
    std::fill(target, target + pool.w.in * channels, 0.0f);
    const Range zs = pool.d.windows(d, d + 1), ps = pool.h.windows(h, h + 1);
    for (int64_t z = zs.begin; z < zs.end; z++)
      for (int64_t p = ps.begin; p < ps.end; p++)
        for (int64_t q = 0; q < pool.w.out; q++) {
          const Range ws = pool.w.taps(q);
          const float factor = averageFactor(pool, countPadding, pool.d.taps(z), pool.h.taps(p), ws);
          for (int64_t w = ws.begin; w < ws.end; w++)
            addScaled(dy + pool.outputLine(n, z, p) + q * channels, channels, factor, target + w * channels);
        }
  });
}

VOXGRAD_CLONES static void addLanes(const float* __restrict x, int64_t count, int64_t width,
                                    double* __restrict sum) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
    for (int64_t j = 0; j < n; j++) sum[j] += x[i + j];
  }
}

// Elements of one sample, once `small` is known to be [N, ..., C] for `large` [N, ..., C].
static int64_t sampleCount(const Step& step, const Tensor& large, const Tensor& small) {
  expectDType(step, large, DType::f32);
  expectDType(step, small, DType::f32);
  expectRank(step, large, 5);
  expectCount(step, small, large.shape[0] * large.channels());
  return large.count() / large.shape[0];
}

static size_t prepareGlobalAverage(const Step& step) {
  expectInputs(step, 1, 1);
  const Tensor& x = step.inputs[0];
  const int64_t count = sampleCount(step, x, step.output);
  return channelSumBytes(Lanes(x.channels()), x.shape[0], count, 1);
}

static void runGlobalAverage(const Step& step) {
  const Tensor& input = step.inputs[0];
  const Lanes lanes(input.channels());
  const int64_t count = sampleCount(step, input, step.output);
  const float* x = input.f32();
  float* y = step.output.f32();
  channelSums<1>(
      lanes, input.shape[0], count, step.workspace,
      [&](int64_t begin, int64_t length, double* sums) { addLanes(x + begin, length, lanes.width, sums); },
      [&](int64_t n, const double* totals) {
        const double voxels = static_cast<double>(count / lanes.channels);
        for (int64_t c = 0; c < lanes.channels; c++)
          y[n * lanes.channels + c] = static_cast<float>(totals[c] / voxels);
      });
}

static size_t prepareGlobalAverageGradient(const Step& step) {
  expectInputs(step, 1, 1);
  sampleCount(step, step.output, step.inputs[0]);
  return 0;
}

static void runGlobalAverageGradient(const Step& step) {
  const int64_t count = sampleCount(step, step.output, step.inputs[0]), channels = step.output.channels();
  const int64_t voxels = count / channels;
  const float factor = 1.0f / static_cast<float>(voxels);
  const float* dy = step.inputs[0].f32();
  float* dx = step.output.f32();
  parallelRange(
      step.output.shape[0] * voxels,
      [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++)
          for (int64_t c = 0; c < channels; c++)
            dx[row * channels + c] = dy[row / voxels * channels + c] * factor;
      },
      std::max<int64_t>(1, chunkElements / channels));
}

const KernelTable poolKernels = {
    {"maxPool3d", prepareMaxPool, runMaxPool},
    {"maxPool3dGradient", prepareMaxPoolGradient, runMaxPoolGradient},
    {"averagePool3d", prepareAveragePool, runAveragePool},
    {"averagePool3dGradient", prepareAveragePoolGradient, runAveragePoolGradient},
    {"globalAveragePool", prepareGlobalAverage, runGlobalAverage},
    {"globalAveragePoolGradient", prepareGlobalAverageGradient, runGlobalAverageGradient},
};

}  // namespace voxgrad::cpu
