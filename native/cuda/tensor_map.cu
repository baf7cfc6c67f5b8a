#include "tensor_map.h"

namespace voxgrad::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Whether this library is for compute capability 9.0a among others; only there are products of warpgroups.
#if !defined(__CUDACC__) || defined(VOXGRAD_WARPGROUPS)
constexpr bool compiled = true;
#else
constexpr bool compiled = false;
#endif

// The driver's function: nothing here is linked with the driver, which may be missing.
Encode encoder() {
#ifndef __CUDACC__
  return cuTensorMapEncodeTiled;
#else
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result;
  constexpr int since = 12000;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, since,
                                                             cudaEnableDefault, &result);
#else
  static_assert(CUDART_VERSION >= since, "the toolkit must know tensor maps");
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result);
#endif
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return reinterpret_cast<Encode>(function);
#endif
}

Encode usableEncoder() {
  int capability = 0;
  check(cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, 0), "compute capability");
  return compiled && capability == 9 ? encoder() : nullptr;
}

Encode knownEncoder() {
  static const Encode known = usableEncoder();
  return known;
}

}  // namespace

bool hasWarpgroups() { return knownEncoder() != nullptr; }

bool isBoxable(const BoxedTensor& tensor) {
  int64_t bytes = tensor.elementBytes;
  for (int i = 0; i < tensor.axes; i++) {
    if (tensor.extent[i] > int64_t{1} << 31 || tensor.step[i] > 8 ||
        int64_t{tensor.box[i]} * tensor.step[i] > mostOfBox)
      return false;
    if (i > 0 && (bytes % 16 != 0 || bytes >= int64_t{1} << 40)) return false;
    if (__builtin_mul_overflow(bytes, tensor.extent[i], &bytes)) return false;
  }
  return tensor.box[0] * tensor.elementBytes == swizzleBytes;
}

TensorMap tensorMapOf(const BoxedTensor& tensor, const void* data) {
  cuuint64_t extents[5], strides[5];
  cuuint32_t box[5], steps[5];
  cuuint64_t bytes = tensor.elementBytes;
  for (int i = 0; i < tensor.axes; i++) {
    extents[i] = static_cast<cuuint64_t>(tensor.extent[i]);
    box[i] = static_cast<cuuint32_t>(tensor.box[i] * tensor.step[i]);
    steps[i] = static_cast<cuuint32_t>(tensor.step[i]);
    bytes *= extents[i];
    strides[i] = bytes;
  }
  TensorMap map;
  const CUtensorMapDataType type =
      tensor.elementBytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  if (knownEncoder()(&map, type, static_cast<cuuint32_t>(tensor.axes), const_cast<void*>(data), extents,
                     strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    throw Error("ERR_DEVICE", "the driver refuses to copy boxes of a tensor");
  return map;
}

}  // namespace voxgrad::cuda
