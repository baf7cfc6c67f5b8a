// Which voxels count in a loss, and what class they are.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// From labels and a mask, each of which may be absent. A voxel whose label is no class does not count, so no
// label is ever used as an index unchecked.
struct Voxels {
  const uint8_t* bytes = nullptr;
  const int32_t* integers = nullptr;
  const uint8_t* mask = nullptr;
  int32_t ignore = -1;
  uint32_t classes = 0;

  Voxels(const Tensor& labels, int64_t classes) : classes(static_cast<uint32_t>(classes)) {
    if (labels.dtype == DType::u8) bytes = labels.u8();
    if (labels.dtype == DType::i32) integers = labels.i32();
  }

  // The class of a voxel, or -1 where it does not count. Without labels, voxels count as class 0.
  __device__ int32_t classOf(int64_t voxel) const {
    int32_t label = 0;
    if (bytes != nullptr)
      label = bytes[voxel];
    else if (integers != nullptr)
      label = integers[voxel];
    if (mask != nullptr && mask[voxel] == 0) return -1;
    // As unsigned, negative labels are above all classes.
    return static_cast<uint32_t>(label) < classes && label != ignore ? label : -1;
  }
};

}  // namespace voxgrad::cuda
