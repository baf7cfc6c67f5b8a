// Neighbouring elements that one thread moves at once.
#pragma once

#include <initializer_list>

#include "cuda.h"

namespace voxgrad::cuda {

template <class T, int V>
struct alignas(V * sizeof(T)) Pack {
  T v[V];
};

template <int V, class T>
__device__ __forceinline__ Pack<T, V> loadPack(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, class T>
__device__ __forceinline__ void storePack(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

inline bool allMultiples(std::initializer_list<int64_t> numbers, int64_t of) {
  for (int64_t number : numbers)
    if (number % of != 0) return false;
  return true;
}

inline int64_t addressOf(const void* data) { return static_cast<int64_t>(reinterpret_cast<intptr_t>(data)); }

// Elements that a thread takes at once of rows of so many: 4, or 1 where that number or the place of a tensor
// forbids it.
inline int packWidth(int64_t row, std::initializer_list<const Tensor*> tensors) {
  if (row % 4 != 0) return 1;
  for (const Tensor* tensor : tensors)
    if (addressOf(tensor->data) % 16 != 0) return 1;
  return 4;
}

// forEach over `count` elements, `width` at a time, with F<width>{arguments...}.
template <template <int> class F, class... Arguments>
void forEachPack(const char* name, int width, int64_t count, const Arguments&... arguments) {
  if (width == 4)
    forEach(name, count / 4, F<4>{arguments...});
  else
    forEach(name, count, F<1>{arguments...});
}

}  // namespace voxgrad::cuda
