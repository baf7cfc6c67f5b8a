// Linear and nearest resizing and its transpose. A line of the result is a blend of at most four lines of the
// input, then resized along itself; the transpose gathers the lines that a line contributed to.
#include <algorithm>
#include <cmath>

#include "clones.h"
#include "kernels.h"
#include "../core/thread_pool.h"

namespace voxgrad::cpu {

namespace {

// Where one output index reads: (1 - fraction) * x[low] + fraction * x[high]; high == low when fraction is 0.
struct Source {
  int32_t low, high;
  float fraction;

  float weightOf(int32_t index) const { return low == index ? (high == index ? 1 : 1 - fraction) : fraction; }
};

// The outputs that read one input index.
struct Readers {
  int32_t begin, end;
};

struct Shape {
  int64_t n, d, h, w, channels;

  explicit Shape(const Tensor& t)
      : n(t.shape[0]), d(t.shape[1]), h(t.shape[2]), w(t.shape[3]), channels(t.shape[4]) {}
  int64_t line() const { return w * channels; }
};

// Half-pixel centres (or corner to corner) for linear; floor(i * in / out) for nearest, corner to corner with halves
// rounded up when aligned.
Source sourceOf(int64_t i, int64_t in, int64_t out, bool linear, bool alignCorners) {
  int64_t low;
  double fraction = 0;
  if (linear) {
    const double position =
        alignCorners ? (out > 1 ? static_cast<double>(i * (in - 1)) / static_cast<double>(out - 1) : 0)
                     : std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(in) / static_cast<double>(out) - 0.5);
    low = std::min(static_cast<int64_t>(position), in - 1);
    if (low + 1 < in) fraction = position - static_cast<double>(low);
  } else if (alignCorners) {
    low = out > 1 ? (2 * i * (in - 1) + out - 1) / (2 * (out - 1)) : 0;
  } else {
    low = i * in / out;
  }
  const float f = static_cast<float>(fraction);
  return {static_cast<int32_t>(low), static_cast<int32_t>(f > 0 ? low + 1 : low), f};
}

// Tables of one axis, which lie in the workspace.
struct Axis {
  const Source* sources;
  const Readers* readers;
};

Axis makeAxis(int64_t in, int64_t out, bool linear, bool alignCorners, char*& memory) {
  Source* sources = reinterpret_cast<Source*>(memory);
  Readers* readers = reinterpret_cast<Readers*>(sources + out);
  memory = reinterpret_cast<char*>(readers + in);
  std::fill(readers, readers + in, Readers{0, 0});
  for (int64_t i = 0; i < out; i++) {
    const Source source = sources[i] = sourceOf(i, in, out, linear, alignCorners);
    for (int32_t index : {source.low, source.high}) {
      // Sources never decrease, so the outputs that read an input are consecutive.
      if (readers[index].end == 0) readers[index].begin = static_cast<int32_t>(i);
      readers[index].end = static_cast<int32_t>(i) + 1;
    }
  }
  return {sources, readers};
}

struct Resize {
  Shape large, small;
  Axis d, h, w;
  // Lines are dealt to a fixed number of tasks, each with a scratch line of its own.
  int64_t tasks;
  float* scratch;
};

}  // namespace

static constexpr int64_t maxTasks = 128;

// `from` and `to` are the input and output of the forward op; `lines` and `scratchLine` those of this one.
static size_t prepareTables(const Step& step, const Tensor& from, const Tensor& to) {
  for (const Tensor* each : {&from, &to}) {
    expectDType(step, *each, DType::f32);
    expectRank(step, *each, 5);
    for (int axis = 1; axis < 4; axis++)
      if (each->shape[axis] > (1 << 30)) refuse(step, "extents must be at most 2^30");
  }
  if (from.shape[0] != to.shape[0] || from.shape[4] != to.shape[4]) refuse(step, "samples or channels differ");
  step.attributes.flag("linear");
  step.attributes.flag("alignCorners");
  size_t bytes = 0;
  for (int axis = 1; axis < 4; axis++)
    bytes += static_cast<size_t>(from.shape[axis]) * sizeof(Readers) + static_cast<size_t>(to.shape[axis]) * sizeof(Source);
  return bytes;
}
