// Neighbouring elements that one thread moves at once.
#pragma once

#include <initializer_list>

#include "bf16.h"

namespace voxgrad::cuda {

template <class T, int V>
struct alignas(V * sizeof(T)) Pack {
  T v[V];
};

template <int V, class T>
__device__ __forceinline__ Pack<T, V> loadPack(const T* from) {
  return *alignedFor<const Pack<T, V>>(from);
}

template <int V, class T>
__device__ __forceinline__ void storePack(T* to, const Pack<T, V>& pack) {
  *alignedFor<Pack<T, V>>(to) = pack;
}

// The same as floats, whatever they are stored as.
template <int V>
__device__ __forceinline__ Pack<float, V> loadFloats(const float* from) {
  return loadPack<V>(from);
}

template <int V>
__device__ __forceinline__ Pack<float, V> loadFloats(const Bf16* from) {
  const Pack<Bf16, V> stored = loadPack<V>(from);
  Pack<float, V> floats;
  for (int k = 0; k < V; k++) floats.v[k] = stored.v[k];
  return floats;
}

template <int V>
__device__ __forceinline__ void storeFloats(float* to, const Pack<float, V>& floats) {
  storePack(to, floats);
}

template <int V>
__device__ __forceinline__ void storeFloats(Bf16* to, const Pack<float, V>& floats) {
  if constexpr (V == 1) {
    *to = floats.v[0];
  } else {
    Pack<uint32_t, V / 2> words;
    for (int k = 0; k < V / 2; k++) words.v[k] = roundToBf16(floats.v[2 * k], floats.v[2 * k + 1]);
    *alignedFor<Pack<uint32_t, V / 2>>(to) = words;
  }
}

inline bool allMultiples(std::initializer_list<int64_t> numbers, int64_t of) {
  for (int64_t number : numbers)
    if (number % of != 0) return false;
  return true;
}

inline int64_t addressOf(const void* data) { return static_cast<int64_t>(reinterpret_cast<intptr_t>(data)); }

// Elements of T that a thread takes at once of rows of so many: a chunk, or 1 where that number or the place
// of a tensor forbids it.
template <class T>
int packWidth(int64_t row, std::initializer_list<const Tensor*> tensors) {
  if (row % chunkOf<T> != 0) return 1;
  for (const Tensor* tensor : tensors)
    if (addressOf(tensor->data) % 16 != 0) return 1;
  return chunkOf<T>;
}

// forEach over `count` elements of T, `width` at a time, with F<T, width>{arguments...}.
template <template <class, int> class F, class T, class... Arguments>
void forEachPack(const char* name, int width, int64_t count, const Arguments&... arguments) {
  if (width == chunkOf<T>)
    forEach(name, count / chunkOf<T>, F<T, chunkOf<T>>{arguments...});
  else
    forEach(name, count, F<T, 1>{arguments...});
}

}  // namespace voxgrad::cuda
