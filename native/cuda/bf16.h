// bfloat16, the upper half of a float: how activations are stored where a plan says so. Arithmetic is float.
#pragma once

#include "ptx.h"

namespace voxgrad::cuda {

struct Bf16 {
  uint16_t bits;

  Bf16() = default;
  // The nearest one, ties to even.
  __device__ __forceinline__ Bf16(float value) : bits(static_cast<uint16_t>(roundToBf16(value, 0.0f))) {}
  __device__ __forceinline__ operator float() const { return __uint_as_float(uint32_t{bits} << 16); }
};

// Elements that are moved at a time: 16 bytes.
template <class T>
constexpr int chunkOf = 16 / static_cast<int>(sizeof(T));

// Names a type where there is no value of it.
template <class T>
struct TypeName {
  using type = T;
};

// Calls f with the name of the type in which a tensor of floats is stored.
template <class F>
void byStorage(const Tensor& tensor, F f) {
  if (tensor.dtype == DType::bf16) return f(TypeName<Bf16>{});
  f(TypeName<float>{});
}

template <class T>
T* dataOf(const Tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

}  // namespace voxgrad::cuda
