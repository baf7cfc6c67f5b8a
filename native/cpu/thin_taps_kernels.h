// The table of micro-kernels behind convolutions of several taps to a few channels, compiled once per
// instruction set. Structs of plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_row.h"

namespace voxgrad {
namespace cpu {

constexpr int kMaxThinTapsChannels = 4;

// Rows of a convolution to fewer channels than lanes, or of its input gradient; weights of a tap are
// [channels][lanes].
struct ThinTapsKernels {
  int lanes;
  int maxRows[kMaxThinTapsChannels];  // [channels - 1]
  GatheredRowsKernel run[kMaxThinTapsChannels];
};

}  // namespace cpu
}  // namespace voxgrad
