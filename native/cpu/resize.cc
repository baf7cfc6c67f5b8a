// Linear and nearest resizing and its transpose. A line of the result is a blend of at most four lines of the
// input, resized along itself; the transpose gathers the lines that a line of the input contributed to.
#include <algorithm>

#include "../core/thread_pool.h"
#include "clones.h"
#include "kernels.h"

namespace voxgrad::cpu {

namespace {

// Where one output index reads: (1 - fraction) * x[low] + fraction * x[high]; high == low when fraction is 0.
struct Source {
  int32_t low, high;
  float fraction;

  float weightOf(int64_t index) const { return low != index ? fraction : high == index ? 1 : 1 - fraction; }
};

// The outputs that read one input index; they are consecutive because sources never decrease.
struct Readers {
  int32_t begin, end;
};

struct Axis {
  Source* sources;
  Readers* readers;
};

struct Extents {
  int64_t n, d, h, w, channels;

  explicit Extents(const Tensor& t)
      : n(t.shape[0]), d(t.shape[1]), h(t.shape[2]), w(t.shape[3]), channels(t.shape[4]) {}
  int64_t lineCount() const { return n * d * h; }
  int64_t lineElements() const { return w * channels; }
};

}  // namespace

// Half-pixel centres or corner to corner for linear; floor(i * in / out) for nearest, or corner to corner
// with halves rounded up.
static Source sourceOf(int64_t i, int64_t in, int64_t out, bool linear, bool alignCorners) {
  if (!linear) {
    const bool corners = alignCorners && out > 1;
    const int64_t index = corners        ? (2 * i * (in - 1) + out - 1) / (2 * (out - 1))
                          : alignCorners ? 0
                                         : i * in / out;
    return {static_cast<int32_t>(index), static_cast<int32_t>(index), 0};
  }
  const double n = static_cast<double>(in), m = static_cast<double>(out), at = static_cast<double>(i);
  const double position = !alignCorners ? (at + 0.5) * n / m - 0.5 : out > 1 ? at * (n - 1) / (m - 1) : 0;
  const int64_t low = std::clamp<int64_t>(static_cast<int64_t>(position), 0, in - 1);
  const float fraction =
      position > 0 && low + 1 < in ? static_cast<float>(position - static_cast<double>(low)) : 0.0f;
  return {static_cast<int32_t>(low), static_cast<int32_t>(fraction > 0 ? low + 1 : low), fraction};
}

static size_t tableBytes(int64_t in, int64_t out) {
  return static_cast<size_t>(out) * sizeof(Source) + static_cast<size_t>(in) * sizeof(Readers);
}

// Lays the tables of one axis out at `memory` and moves it behind them.
static Axis makeAxis(const Step& step, int64_t in, int64_t out, char*& memory) {
  const bool linear = step.attributes.flag("linear"), alignCorners = step.attributes.flag("alignCorners");
  const Axis axis = {reinterpret_cast<Source*>(memory),
                     reinterpret_cast<Readers*>(memory + static_cast<size_t>(out) * sizeof(Source))};
  memory += tableBytes(in, out);
  std::fill(axis.readers, axis.readers + in, Readers{0, 0});
  for (int64_t i = 0; i < out; i++) {
    const Source source = axis.sources[i] = sourceOf(i, in, out, linear, alignCorners);
    for (int32_t index : {source.low, source.high}) {
      Readers& readers = axis.readers[index];
      if (readers.end == 0) readers.begin = static_cast<int32_t>(i);
      readers.end = static_cast<int32_t>(i) + 1;
    }
  }
  return axis;
}

// Lines are dealt to a bounded number of tasks, each of which has a scratch line of its own.
static int64_t tasksFor(int64_t lines) { return std::min<int64_t>(lines, 64); }

// `from` and `to` are the input and the result of the forward op, `lines` is what this op writes, and
// `scratch` has the elements of a scratch line.
static size_t prepare(const Step& step, const Tensor& from, const Tensor& to, const Tensor& lines,
                      const Tensor& scratch) {
  size_t bytes = 0;
  for (const Tensor* each : {&from, &to}) {
    expectDType(step, *each, DType::f32);
    expectRank(step, *each, 5);
  }
  for (int axis = 1; axis < 4; axis++) {
    if (std::max(from.shape[axis], to.shape[axis]) > (1 << 30)) refuse(step, "extents must be at most 2^30");
    bytes += tableBytes(from.shape[axis], to.shape[axis]);
  }
  if (from.shape[0] != to.shape[0] || from.shape[4] != to.shape[4])
    refuse(step, "samples or channels differ");
  step.attributes.flag("linear");
  step.attributes.flag("alignCorners");
  const int64_t scratchElements = tasksFor(Extents(lines).lineCount()) * Extents(scratch).lineElements();
  return bytes + static_cast<size_t>(scratchElements) * sizeof(float);
}

VOXGRAD_CLONES static void setScaled(const float* __restrict x, int64_t count, float weight,
                                     float* __restrict y) {
  for (int64_t i = 0; i < count; i++) y[i] = weight * x[i];
}

VOXGRAD_CLONES static void addScaled(const float* __restrict x, int64_t count, float weight,
                                     float* __restrict y) {
  for (int64_t i = 0; i < count; i++) y[i] += weight * x[i];
}

VOXGRAD_CLONES static void resizeLine(const float* __restrict x, const Source* __restrict sources,
                                      int64_t width, int64_t channels, float* __restrict y) {
  for (int64_t i = 0; i < width; i++, y += channels) {
    const float fraction = sources[i].fraction, rest = 1 - fraction;
    const float *low = x + sources[i].low * channels, *high = x + sources[i].high * channels;
    for (int64_t c = 0; c < channels; c++) y[c] = rest * low[c] + fraction * high[c];
  }
}

VOXGRAD_CLONES static void resizeLineTransposed(const float* __restrict dy, const Source* __restrict sources,
                                                int64_t width, int64_t channels, float* __restrict dx) {
  for (int64_t i = 0; i < width; i++, dy += channels) {
    const float fraction = sources[i].fraction, rest = 1 - fraction;
    float* low = dx + sources[i].low * channels;
    for (int64_t c = 0; c < channels; c++) low[c] += rest * dy[c];
    if (fraction == 0) continue;
    float* high = dx + sources[i].high * channels;
    for (int64_t c = 0; c < channels; c++) high[c] += fraction * dy[c];
  }
}

// Adds weighted lines up in a scratch line; those of weight 0 are not read.
class LineSum {
 public:
  LineSum(float* line, int64_t count) : line_(line), count_(count) {}

  void add(const float* x, float weight) {
    if (weight == 0) return;
    (empty_ ? setScaled : addScaled)(x, count_, weight, line_);
    empty_ = false;
  }
  bool empty() const { return empty_; }

 private:
  float* line_;
  int64_t count_;
  bool empty_ = true;
};

static size_t prepareResize(const Step& step) {
  expectInputs(step, 1, 1);
  return prepare(step, step.inputs[0], step.output, step.output, step.inputs[0]);
}

static void runResize(const Step& step) {
  const Extents from(step.inputs[0]), to(step.output);
  char* memory = static_cast<char*>(step.workspace);
  const Axis ds = makeAxis(step, from.d, to.d, memory), hs = makeAxis(step, from.h, to.h, memory),
             ws = makeAxis(step, from.w, to.w, memory);
  float* scratch = reinterpret_cast<float*>(memory);
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  const int64_t lines = to.lineCount(), tasks = tasksFor(lines), length = from.lineElements();
  parallelFor(tasks, [&](int64_t task) {
    float* blend = scratch + task * length;
    for (int64_t line = lines * task / tasks; line < lines * (task + 1) / tasks; line++) {
      const Source h = hs.sources[line % to.h], d = ds.sources[line / to.h % to.d];
      const float* sample = x + line / to.h / to.d * from.d * from.h * length;
      LineSum sum(blend, length);
      sum.add(sample + (d.low * from.h + h.low) * length, (1 - d.fraction) * (1 - h.fraction));
      sum.add(sample + (d.low * from.h + h.high) * length, (1 - d.fraction) * h.fraction);
      sum.add(sample + (d.high * from.h + h.low) * length, d.fraction * (1 - h.fraction));
      sum.add(sample + (d.high * from.h + h.high) * length, d.fraction * h.fraction);
      resizeLine(blend, ws.sources, to.w, to.channels, y + line * to.lineElements());
    }
  });
}

static size_t prepareResizeGradient(const Step& step) {
  expectInputs(step, 1, 1);
  return prepare(step, step.output, step.inputs[0], step.output, step.inputs[0]);
}

static void runResizeGradient(const Step& step) {
  const Extents from(step.output), to(step.inputs[0]);
  char* memory = static_cast<char*>(step.workspace);
  const Axis ds = makeAxis(step, from.d, to.d, memory), hs = makeAxis(step, from.h, to.h, memory),
             ws = makeAxis(step, from.w, to.w, memory);
  float* scratch = reinterpret_cast<float*>(memory);
  const float* dy = step.inputs[0].f32();
  float* dx = step.output.f32();
  const int64_t lines = from.lineCount(), tasks = tasksFor(lines), length = to.lineElements();
  parallelFor(tasks, [&](int64_t task) {
    float* gathered = scratch + task * length;
    for (int64_t line = lines * task / tasks; line < lines * (task + 1) / tasks; line++) {
      const int64_t h = line % from.h, d = line / from.h % from.d;
      const float* sample = dy + line / from.h / from.d * to.d * to.h * length;
      LineSum sum(gathered, length);
      for (int64_t z = ds.readers[d].begin; z < ds.readers[d].end; z++)
        for (int64_t p = hs.readers[h].begin; p < hs.readers[h].end; p++)
          sum.add(sample + (z * to.h + p) * length, ds.sources[z].weightOf(d) * hs.sources[p].weightOf(h));
      float* target = dx + line * from.lineElements();
      std::fill(target, target + from.lineElements(), 0.0f);
      if (!sum.empty()) resizeLineTransposed(gathered, ws.sources, to.w, to.channels, target);
    }
  });
}

const KernelTable resizeKernels = {
    {"resize", prepareResize, runResize},
    {"resizeGradient", prepareResizeGradient, runResizeGradient},
};

}  // namespace voxgrad::cpu
