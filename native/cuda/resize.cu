// Linear and nearest resizing and its transpose. Both gather: a thread owns results, and of the transpose
// visits all that its element of the input contributed to.
#include "index.h"
#include "kernels.h"
#include "pack.h"

namespace voxgrad::cuda {
namespace {

// Where one output index reads: (1 - fraction) * x[low] + fraction * x[high]; high == low when fraction is 0.
struct Source {
  int32_t low, high;
  float fraction;

  __device__ float weightOf(int64_t index) const {
    return low != index ? fraction : high == index ? 1.0f : 1 - fraction;
  }
};

// The outputs that read one input index; they are consecutive because sources never decrease.
struct Readers {
  int32_t begin, end;
};

struct Axis {
  int64_t in, out;
  Source* sources;
  Readers* readers;
};

// The tables of the three axes: sources of the outputs of each, then readers of the inputs of each.
struct Tables {
  Axis d, h, w;

  Tables(const Tensor& from, const Tensor& to, void* workspace) {
    Source* source = static_cast<Source*>(workspace);
    Axis* const axes[] = {&d, &h, &w};
    for (int i = 0; i < 3; i++) {
      *axes[i] = {from.shape[i + 1], to.shape[i + 1], source, nullptr};
      source += axes[i]->out;
    }
    Readers* reader = reinterpret_cast<Readers*>(source);
    for (Axis* axis : axes) {
      axis->readers = reader;
      reader += axis->in;
    }
  }
  int64_t outs() const { return d.out + h.out + w.out; }
  int64_t ins() const { return d.in + h.in + w.in; }
  size_t sourceBytes() const { return static_cast<size_t>(outs()) * sizeof(Source); }
  size_t bytes() const { return sourceBytes() + static_cast<size_t>(ins()) * sizeof(Readers); }
};

struct MakeSources {
  Tables tables;
  bool linear, alignCorners;

  // Half-pixel centres or corner to corner for linear; floor(i * in / out) for nearest, or corner to corner
  // with halves rounded up.
  __device__ Source sourceOf(int64_t i, int64_t in, int64_t out) const {
    if (!linear) {
      const bool corners = alignCorners && out > 1;
      const int64_t index = corners        ? (2 * i * (in - 1) + out - 1) / (2 * (out - 1))
                            : alignCorners ? 0
                                           : i * in / out;
      return {static_cast<int32_t>(index), static_cast<int32_t>(index), 0};
    }
    const double n = static_cast<double>(in), m = static_cast<double>(out), at = static_cast<double>(i);
    const double position = !alignCorners ? (at + 0.5) * n / m - 0.5 : out > 1 ? at * (n - 1) / (m - 1) : 0;
    int64_t low = position > 0 ? static_cast<int64_t>(position) : 0;
    if (low > in - 1) low = in - 1;
    const float fraction =
        position > 0 && low + 1 < in ? static_cast<float>(position - static_cast<double>(low)) : 0.0f;
    return {static_cast<int32_t>(low), static_cast<int32_t>(fraction > 0 ? low + 1 : low), fraction};
  }
  __device__ void operator()(int64_t i) const {
    const int64_t behindD = i - tables.d.out, behindH = behindD - tables.h.out;
    if (behindD < 0)
      fill(tables.d, i);
    else if (behindH < 0)
      fill(tables.h, behindD);
    else
      fill(tables.w, behindH);
  }
  __device__ void fill(const Axis& axis, int64_t i) const {
    axis.sources[i] = sourceOf(i, axis.in, axis.out);
  }
};

struct MakeReaders {
  Tables tables;

  __device__ void operator()(int64_t i) const {
    const int64_t behindD = i - tables.d.in, behindH = behindD - tables.h.in;
    if (behindD < 0)
      fill(tables.d, i);
    else if (behindH < 0)
      fill(tables.h, behindD);
    else
      fill(tables.w, behindH);
  }
  __device__ void fill(const Axis& axis, int64_t i) const {
    // The first output that reads this index or a later one, and the first whose reads are all later.
    axis.readers[i] = {first(axis, i, false), first(axis, i, true)};
  }
  __device__ int32_t first(const Axis& axis, int64_t i, bool allLater) const {
    int64_t below = 0, above = axis.out;
    while (below < above) {
      const int64_t middle = (below + above) / 2;
      const Source source = axis.sources[middle];
      if (allLater ? source.low > i : source.high >= i)
        above = middle;
      else
        below = middle + 1;
    }
    return static_cast<int32_t>(below);
  }
};

void makeSources(const Step& step, const Tables& tables) {
  forEach("resizeSources", tables.outs(),
          MakeSources{tables, step.attributes.flag("linear"), step.attributes.flag("alignCorners")});
}

template <class T, int V>
struct Resize {
  Tables tables;
  Places places;
  int64_t channels;
  const T* x;
  T* y;

  __device__ void add(Pack<float, V>* sum, const Place& at, int64_t d, int64_t h, int64_t w,
                      float weight) const {
    if (weight == 0) return;
    const int64_t voxel = ((at.n * tables.d.in + d) * tables.h.in + h) * tables.w.in + w;
    const Pack<float, V> values = loadFloats<V>(x + voxel * channels + at.c);
    for (int k = 0; k < V; k++) sum->v[k] += weight * values.v[k];
  }
  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Source d = tables.d.sources[at.d], h = tables.h.sources[at.h], w = tables.w.sources[at.w];
    Pack<float, V> sum = {};
    for (int corner = 0; corner < 4; corner++) {
      const bool nextD = corner >> 1, nextH = corner & 1;
      const float weight = (nextD ? d.fraction : 1 - d.fraction) * (nextH ? h.fraction : 1 - h.fraction);
      const int64_t atD = nextD ? d.high : d.low, atH = nextH ? h.high : h.low;
      add(&sum, at, atD, atH, w.low, weight * (1 - w.fraction));
      add(&sum, at, atD, atH, w.high, weight * w.fraction);
    }
    storeFloats(y + i * V, sum);
  }
};

size_t resizeWorkspace(const Step& step) {
  return Tables(step.inputs[0], step.output, nullptr).sourceBytes();
}

void runResize(const Step& step) {
  const Tensor &x = step.inputs[0], &y = step.output;
  const Tables tables(x, y, step.workspace);
  makeSources(step, tables);
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(y.channels(), {&x, &y});
    forEachPack<Resize, T>("resize", width, y.count(), tables, Places(y, width), y.channels(), dataOf<T>(x),
                           dataOf<T>(y));
  });
}

template <class T, int V>
struct ResizeGradient {
  Tables tables;
  Places places;
  int64_t channels;
  const T* dy;
  T* dx;

  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Readers zs = tables.d.readers[at.d], ps = tables.h.readers[at.h], qs = tables.w.readers[at.w];
    Pack<float, V> sum = {};
    for (int32_t z = zs.begin; z < zs.end; z++)
      for (int32_t p = ps.begin; p < ps.end; p++) {
        const float weight = tables.d.sources[z].weightOf(at.d) * tables.h.sources[p].weightOf(at.h);
        const int64_t voxel = ((at.n * tables.d.out + z) * tables.h.out + p) * tables.w.out + qs.begin;
        const T* from = dy + voxel * channels + at.c;
        // A sum of its own for each line: errors stay small where many outputs read one input.
        Pack<float, V> lineSum = {};
        for (int32_t q = qs.begin; q < qs.end; q++, from += channels) {
          const float share = tables.w.sources[q].weightOf(at.w);
          const Pack<float, V> gradient = loadFloats<V>(from);
          for (int k = 0; k < V; k++) lineSum.v[k] += share * gradient.v[k];
        }
        for (int k = 0; k < V; k++) sum.v[k] += weight * lineSum.v[k];
      }
    storeFloats(dx + i * V, sum);
  }
};

size_t resizeGradientWorkspace(const Step& step) {
  return Tables(step.output, step.inputs[0], nullptr).bytes();
}

void runResizeGradient(const Step& step) {
  const Tensor &dy = step.inputs[0], &dx = step.output;
  const Tables tables(dx, dy, step.workspace);
  makeSources(step, tables);
  forEach("resizeReaders", tables.ins(), MakeReaders{tables});
  byStorage(dx, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(dx.channels(), {&dy, &dx});
    forEachPack<ResizeGradient, T>("resizeGradient", width, dx.count(), tables, Places(dx, width),
                                   dx.channels(), dataOf<T>(dy), dataOf<T>(dx));
  });
}

}  // namespace

const KernelTable resizeKernels = {
    narrowable(kernel("resize", runResize, resizeWorkspace), 1 | outputBit),
    narrowable(kernel("resizeGradient", runResizeGradient, resizeGradientWorkspace), 1 | outputBit),
};

}  // namespace voxgrad::cuda
