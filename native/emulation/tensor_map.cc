#include "tensor_map.h"

#include <cstring>

#include "warpgroup.h"

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint32_t bytes = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 4;
  bool good = reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
              rank >= 1 && rank <= 5;
  for (cuuint32_t i = 0; good && i < rank; i++) {
    good = extents[i] >= 1 && extents[i] <= uint64_t{1} << 32 && box[i] >= 1 && box[i] <= 256 &&
           steps[i] >= 1 && steps[i] <= (i > 0 ? 8 : 1);
    if (i > 0) good = good && strides[i - 1] % 16 == 0 && strides[i - 1] < uint64_t{1} << 40;
  }
  if (!good || box[0] * bytes % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  if (swizzle == CU_TENSOR_MAP_SWIZZLE_128B && box[0] * bytes > 128) return CUDA_ERROR_INVALID_VALUE;
  *map = {};
  map->data = static_cast<const unsigned char*>(data);
  map->rank = static_cast<uint8_t>(rank);
  map->elementBytes = static_cast<uint8_t>(bytes);
  map->swizzle = static_cast<uint8_t>(swizzle);
  map->toTf32 = type == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  for (cuuint32_t i = 0; i < rank; i++) {
    map->extent[i] = static_cast<uint32_t>(extents[i]);
    map->box[i] = static_cast<uint16_t>((box[i] + steps[i] - 1) / steps[i]);
    map->step[i] = static_cast<uint8_t>(steps[i]);
    if (i > 0) map->stride[i - 1] = strides[i - 1];
  }
  return CUDA_SUCCESS;
}

namespace emulation {

// The nearest number of 10 bits of mantissa, ties away from zero.
static void roundToTf32(unsigned char* number) {
  uint32_t bits;
  std::memcpy(&bits, number, sizeof bits);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
  std::memcpy(number, &bits, sizeof bits);
}

size_t BoxCopy::bytes() const {
  size_t bytes = map.elementBytes;
  for (int i = 0; i < map.rank; i++) bytes *= map.box[i];
  return bytes;
}

void BoxCopy::carryOut(uint32_t shared) const {
  const size_t line = size_t{map.box[0]} * map.elementBytes;
  uint16_t position[5] = {};
  for (size_t lines = bytes() / line, row = 0; row < lines; row++) {
    const unsigned char* from = map.data;
    bool inside = true;
    for (int i = 1; i < map.rank; i++) {
      const int64_t at = int64_t{this->at[i]} + position[i] * map.step[i];
      inside = inside && at >= 0 && at < map.extent[i];
      from += at * static_cast<int64_t>(map.stride[i - 1]);
    }
    for (size_t element = 0; element < map.box[0]; element++) {
      const size_t offset = row * line + element * map.elementBytes;
      const uint32_t address = shared + static_cast<uint32_t>(offset);
      unsigned char* place =
          map.swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? to + offset : to + (swizzled128(address) - shared);
      const int64_t at = int64_t{this->at[0]} + static_cast<int64_t>(element);
      if (inside && at >= 0 && at < map.extent[0])
        std::memcpy(place, from + at * map.elementBytes, map.elementBytes);
      else
        std::memset(place, 0, map.elementBytes);
      if (map.toTf32) roundToTf32(place);
    }
    for (int i = 1; i < map.rank && ++position[i] == map.box[i]; i++) position[i] = 0;
  }
}

}  // namespace emulation
