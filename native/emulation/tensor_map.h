// Tensor maps, as the driver's cuTensorMapEncodeTiled makes them and the copy engine of compute capability 9
// reads them. Only what we use of them is known here: tiles without interleaving, whose innermost extent is
// dense, and swizzled over 128 bytes or not at all. Copies of floats as TF32 round them.
#pragma once

#include <cstddef>
#include <cstdint>

using CUresult = int;
constexpr CUresult CUDA_SUCCESS = 0;
constexpr CUresult CUDA_ERROR_INVALID_VALUE = 1;

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;

struct alignas(64) CUtensorMap {
  const unsigned char* data;
  uint64_t stride[4];  // bytes from one position to the next along all axes but the innermost
  uint32_t extent[5];
  uint16_t box[5];  // positions
  uint8_t step[5];
  uint8_t rank, elementBytes, swizzle;
  bool toTf32;
};
static_assert(sizeof(CUtensorMap) == 128, "as large as the driver's");

enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9, CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 = 11 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE = 0, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_NONE = 0, CU_TENSOR_MAP_L2_PROMOTION_L2_128B = 2 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// Refuses what the driver's documentation says that it refuses. The innermost extent comes first.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill);

namespace emulation {

// A box of a tensor on its way to shared memory.
struct BoxCopy {
  CUtensorMap map;
  unsigned char* to;
  int32_t at[5];  // of its first element, innermost first; it may lie outside

  size_t bytes() const;
  // Zeroes stand for what is outside. `to` has the address `shared` within shared memory: bits 4 to 6 of
  // swizzled addresses are xored with bits 7 to 9.
  void carryOut(uint32_t shared) const;
};

}  // namespace emulation
