// y = f(a, b) element by element, for operands that are stored as floats or as bfloat16.
#pragma once

#include "pack.h"

namespace voxgrad::cuda {

// Elements [V i, V i + V), or those of them that there are.
template <class T, int V, class F>
struct Elementwise {
  const T *a, *b;
  int64_t count;
  F f;
  T* y;

  __device__ void operator()(int64_t i) const {
    const int64_t at = i * V;
    if (at + V > count) {
      for (int64_t k = at; k < count; k++) y[k] = f(a[k], b[k]);
      return;
    }
    Pack<float, V> left = loadFloats<V>(a + at);
    const Pack<float, V> right = loadFloats<V>(b + at);
    for (int k = 0; k < V; k++) left.v[k] = f(left.v[k], right.v[k]);
    storeFloats(y + at, left);
  }
};

// `f` is a small struct with `__device__ float operator()(float, float) const`; y may be a or b.
template <class F>
void elementwise(const char* name, const Tensor& a, const Tensor& b, const Tensor& y, F f) {
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    const T *left = dataOf<T>(a), *right = dataOf<T>(b);
    const int64_t count = y.count();
    if (allMultiples({addressOf(left), addressOf(right), addressOf(y.data)}, 16))
      forEach(name, divideUp(count, chunkOf<T>),
              Elementwise<T, chunkOf<T>, F>{left, right, count, f, dataOf<T>(y)});
    else
      forEach(name, count, Elementwise<T, 1, F>{left, right, count, f, dataOf<T>(y)});
  });
}

}  // namespace voxgrad::cuda
