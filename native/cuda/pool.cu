// Max and average pooling over windows, the mean over space, and their gradients. Gradients gather: a thread
// owns elements of the input gradient and visits the windows that reach them.
#include "index.h"
#include "kernels.h"
#include "pack.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

struct Range {
  int64_t begin, end;
  __device__ int64_t size() const { return end - begin; }
};

struct Axis {
  int64_t in, out, kernel, stride, padding;
  Divisor strides;

  // Where the window of an output index lies within the input.
  __device__ Range taps(int64_t index) const {
    const int64_t begin = index * stride - padding, end = begin + kernel;
    return {begin > 0 ? begin : 0, end < in ? end : in};
  }
  // The output indices whose windows hold an input index.
  __device__ Range windows(int64_t index) const {
    const int64_t first = index + padding - kernel + 1, end = strides.quotient(index + padding) + 1;
    return {first <= 0 ? 0 : strides.quotient(first + stride - 1), end < out ? end : out};
  }
  // The number of a tap within the window of an output index, padding included.
  __device__ int64_t tapOf(int64_t index, int64_t in) const { return in - (index * stride - padding); }
};

// Windows of `small` over `large`, both [N, D, H, W, C].
struct Pool {
  int64_t channels;
  Axis d, h, w;

  Pool(const Step& step, const Tensor& large, const Tensor& small)
      : channels(large.shape[4]),
        d(axis(step, large, small, 0)),
        h(axis(step, large, small, 1)),
        w(axis(step, large, small, 2)) {}

  static Axis axis(const Step& step, const Tensor& large, const Tensor& small, int i) {
    const auto of = [&](const char* name) { return step.attributes.integers(name, 3)[i]; };
    return {large.shape[i + 1], small.shape[i + 1], of("kernel"),
            of("stride"),       of("padding"),      Divisor(of("stride"))};
  }
  __device__ int64_t input(const Place& at, int64_t z, int64_t y, int64_t x) const {
    return (((at.n * d.in + z) * h.in + y) * w.in + x) * channels + at.c;
  }
  __device__ int64_t output(const Place& at, int64_t z, int64_t y, int64_t x) const {
    return (((at.n * d.out + z) * h.out + y) * w.out + x) * channels + at.c;
  }
};

// The first of equal values wins, and NaN wins over all.
__device__ __forceinline__ bool beats(float value, float best) { return value > best || value != value; }

// Each maximum goes to `y` and the number of its tap to `argument`; either may be null.
template <class T, int V>
struct MaxPool {
  Pool pool;
  Places places;
  const T* x;
  T* y;
  int32_t* argument;

  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Range ds = pool.d.taps(at.d), hs = pool.h.taps(at.h), ws = pool.w.taps(at.w);
    Pack<float, V> best = {};
    Pack<int32_t, V> taps = {};
    bool first = true;
    for (int64_t d = ds.begin; d < ds.end; d++)
      for (int64_t h = hs.begin; h < hs.end; h++)
        for (int64_t w = ws.begin; w < ws.end; w++) {
          const Pack<float, V> values = loadFloats<V>(x + pool.input(at, d, h, w));
          const int64_t line = pool.d.tapOf(at.d, d) * pool.h.kernel + pool.h.tapOf(at.h, h);
          const auto tap = static_cast<int32_t>(line * pool.w.kernel + pool.w.tapOf(at.w, w));
          for (int k = 0; k < V; k++)
            if (first || beats(values.v[k], best.v[k])) {
              best.v[k] = values.v[k];
              taps.v[k] = tap;
            }
          first = false;
        }
    if (y != nullptr) storeFloats(y + i * V, best);
    if (argument != nullptr) storePack(argument + i * V, taps);
  }
};

void runMaxPool(const Step& step) {
  const Tensor &x = step.inputs[0], &y = step.output;
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(y.channels(), {&x, &y});
    forEachPack<MaxPool, T>("maxPool3d", width, y.count(), Pool(step, x, y), Places(y, width), dataOf<T>(x),
                            dataOf<T>(y), static_cast<int32_t*>(nullptr));
  });
}

template <class T, int V>
struct MaxPoolGradient {
  Pool pool;
  Places places;
  const int32_t* argument;
  const T* dy;
  T* dx;

  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Range zs = pool.d.windows(at.d), ps = pool.h.windows(at.h), qs = pool.w.windows(at.w);
    Pack<float, V> sum = {};
    for (int64_t z = zs.begin; z < zs.end; z++)
      for (int64_t p = ps.begin; p < ps.end; p++)
        for (int64_t q = qs.begin; q < qs.end; q++) {
          const int64_t from = pool.output(at, z, p, q);
          const int64_t line = pool.d.tapOf(z, at.d) * pool.h.kernel + pool.h.tapOf(p, at.h);
          const auto tap = static_cast<int32_t>(line * pool.w.kernel + pool.w.tapOf(q, at.w));
          const Pack<int32_t, V> largest = loadPack<V>(argument + from);
          const Pack<float, V> gradient = loadFloats<V>(dy + from);
          for (int k = 0; k < V; k++) sum.v[k] += largest.v[k] == tap ? gradient.v[k] : 0.0f;
        }
    storeFloats(dx + i * V, sum);
  }
};

size_t maxPoolGradientWorkspace(const Step& step) {
  return static_cast<size_t>(step.inputs[1].count()) * sizeof(int32_t);
}

void runMaxPoolGradient(const Step& step) {
  const Tensor &x = step.inputs[0], &dy = step.inputs[1], &dx = step.output;
  const Pool pool(step, x, dy);
  int32_t* argument = static_cast<int32_t*>(step.workspace);
  byStorage(dx, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(dx.channels(), {&x, &dy, &dx});
    forEachPack<MaxPool, T>("maxPool3dArguments", width, dy.count(), pool, Places(dy, width), dataOf<T>(x),
                            static_cast<T*>(nullptr), argument);
    forEachPack<MaxPoolGradient, T>("maxPool3dGradient", width, dx.count(), pool, Places(dx, width), argument,
                                    dataOf<T>(dy), dataOf<T>(dx));
  });
}

// What the sum over a window is divided by, as a factor.
struct AverageFactor {
  float whole;  // that of all windows where padding counts, else 0

  AverageFactor(const Step& step, const Pool& pool)
      : whole(step.attributes.flag("countIncludePad")
                  ? 1.0f / static_cast<float>(pool.d.kernel * pool.h.kernel * pool.w.kernel)
                  : 0) {}
  // For a window of so many rows of taps, each as long as `ws`.
  __device__ float operator()(int64_t rows, Range ws) const {
    return whole > 0 ? whole : 1.0f / static_cast<float>(rows * ws.size());
  }
};

template <class T, int V>
struct AveragePool {
  Pool pool;
  Places places;
  AverageFactor factorOf;
  const T* x;
  T* y;

  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Range ds = pool.d.taps(at.d), hs = pool.h.taps(at.h), ws = pool.w.taps(at.w);
    const float factor = factorOf(ds.size() * hs.size(), ws);
    Pack<float, V> sum = {};
    for (int64_t d = ds.begin; d < ds.end; d++)
      for (int64_t h = hs.begin; h < hs.end; h++)
        for (int64_t w = ws.begin; w < ws.end; w++) {
          const Pack<float, V> values = loadFloats<V>(x + pool.input(at, d, h, w));
          for (int k = 0; k < V; k++) sum.v[k] += factor * values.v[k];
        }
    storeFloats(y + i * V, sum);
  }
};

void runAveragePool(const Step& step) {
  const Tensor &x = step.inputs[0], &y = step.output;
  const Pool pool(step, x, y);
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(y.channels(), {&x, &y});
    forEachPack<AveragePool, T>("averagePool3d", width, y.count(), pool, Places(y, width),
                                AverageFactor(step, pool), dataOf<T>(x), dataOf<T>(y));
  });
}

template <class T, int V>
struct AveragePoolGradient {
  Pool pool;
  Places places;
  AverageFactor factorOf;
  const T* dy;
  T* dx;

  __device__ void operator()(int64_t i) const {
    const Place at = places.at(i);
    const Range zs = pool.d.windows(at.d), ps = pool.h.windows(at.h), qs = pool.w.windows(at.w);
    Pack<float, V> sum = {};
    for (int64_t z = zs.begin; z < zs.end; z++)
      for (int64_t p = ps.begin; p < ps.end; p++) {
        const int64_t rows = pool.d.taps(z).size() * pool.h.taps(p).size();
        const T* from = dy + pool.output(at, z, p, qs.begin);
        for (int64_t q = qs.begin; q < qs.end; q++, from += pool.channels) {
          const float factor = factorOf(rows, pool.w.taps(q));
          const Pack<float, V> gradient = loadFloats<V>(from);
          for (int k = 0; k < V; k++) sum.v[k] += factor * gradient.v[k];
        }
      }
    storeFloats(dx + i * V, sum);
  }
};

void runAveragePoolGradient(const Step& step) {
  const Tensor &dy = step.inputs[0], &dx = step.output;
  const Pool pool(step, dx, dy);
  byStorage(dx, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const int width = packWidth<T>(dx.channels(), {&dy, &dx});
    forEachPack<AveragePoolGradient, T>("averagePool3dGradient", width, dx.count(), pool, Places(dx, width),
                                        AverageFactor(step, pool), dataOf<T>(dy), dataOf<T>(dx));
  });
}

// Voxels of a sample as rows.
SumShape spaceShape(const Tensor& x) {
  return {x.shape[0], x.shape[1] * x.shape[2] * x.shape[3], x.channels()};
}

template <class T>
struct AddVoxel {
  SumShape shape;
  const T* x;
  __device__ void operator()(int64_t set, int64_t row, int64_t column, double (&sums)[1]) const {
    sums[0] += float{x[(set * shape.rows + row) * shape.columns + column]};
  }
};

template <class T>
struct StoreMean {
  SumShape shape;
  T* y;
  __device__ void operator()(int64_t set, int64_t column, const double (&totals)[1]) const {
    y[set * shape.columns + column] = static_cast<float>(totals[0] / static_cast<double>(shape.rows));
  }
};

size_t globalAverageWorkspace(const Step& step) { return sumBytes<1>(spaceShape(step.inputs[0])); }

void runGlobalAverage(const Step& step) {
  const SumShape shape = spaceShape(step.inputs[0]);
  byStorage(step.output, [&](auto storage) {
    using T = typename decltype(storage)::type;
    columnSums<1>("globalAveragePool", shape, step.workspace, AddVoxel<T>{shape, dataOf<T>(step.inputs[0])},
                  StoreMean<T>{shape, dataOf<T>(step.output)});
  });
}

template <class T>
struct SpreadMean {
  const T* dy;
  float factor;
  Divisor sample, channels;
  int64_t width;
  T* dx;
  __device__ void operator()(int64_t i) const {
    dx[i] = dy[sample.quotient(i) * width + channels.remainder(i)] * factor;
  }
};

void runGlobalAverageGradient(const Step& step) {
  const SumShape shape = spaceShape(step.output);
  byStorage(step.output, [&](auto storage) {
    using T = typename decltype(storage)::type;
    forEach("globalAveragePoolGradient", step.output.count(),
            SpreadMean<T>{dataOf<T>(step.inputs[0]), 1.0f / static_cast<float>(shape.rows),
                          Divisor(shape.rows * shape.columns), Divisor(shape.columns), shape.columns,
                          dataOf<T>(step.output)});
  });
}

}  // namespace

const KernelTable poolKernels = {
    narrowable(kernel("maxPool3d", runMaxPool), 1 | outputBit),
    narrowable(kernel("maxPool3dGradient", runMaxPoolGradient, maxPoolGradientWorkspace), 3 | outputBit),
    narrowable(kernel("averagePool3d", runAveragePool), 1 | outputBit),
    narrowable(kernel("averagePool3dGradient", runAveragePoolGradient), 1 | outputBit),
    narrowable(kernel("globalAveragePool", runGlobalAverage, globalAverageWorkspace), 1 | outputBit),
    narrowable(kernel("globalAveragePoolGradient", runGlobalAverageGradient), 1 | outputBit),
};

}  // namespace voxgrad::cuda
