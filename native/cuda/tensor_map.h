// What the copy engine of compute capability 9 must know of a tensor to bring boxes of it to shared memory.
#pragma once

#include "hopper.h"

namespace voxgrad::cuda {

// Whether the device has products of warpgroups and this library has kernels with them.
bool hasWarpgroups();

// A dense tensor of bfloat16 numbers, or of floats that become TF32 ones on their way, at an address aligned
// to 16 bytes. The innermost extent, a multiple of as much, comes first.
struct BoxedTensor {
  int elementBytes;
  int axes;
  int64_t extent[5];
  int box[5];                     // 128 bytes along the innermost axis
  int step[5] = {1, 1, 1, 1, 1};  // from one position in a box to the next, up to 8; 1 along the innermost
};
// What a box may span along an axis: steps too.
constexpr int mostOfBox = 256;
bool isBoxable(const BoxedTensor& tensor);
// Its boxes are swizzled over 128 bytes.
TensorMap tensorMapOf(const BoxedTensor& tensor, const void* data);

}  // namespace voxgrad::cuda
