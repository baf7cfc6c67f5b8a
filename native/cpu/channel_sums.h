// What kernels add up of the outputs that they store. Plain data only: sources of every instruction set
// include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// Sums over outputs by channel, around a value near them: the first output of all.
struct ChannelSums {
  double* totals;  // [vectors][2][lanes]: of the differences from the shift, and of their squares
  float* shift;    // [vectors][lanes]
  int64_t voxels;  // that were added; 0 leaves it to the kernel to set the shift
};

}  // namespace cpu
}  // namespace voxgrad
