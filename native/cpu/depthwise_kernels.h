// The table of micro-kernels behind depthwise convolutions, compiled once per instruction set. Structs of
// plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_row.h"

namespace voxgrad {
namespace cpu {

constexpr int kMaxDepthwiseRuns = 16;  // of taps of a row
constexpr int kMaxDepthwiseRows = 3;   // of x, that share what is read of dy

// What a row of dy adds to the weight gradient through some taps of some rows of x.
struct DepthwiseSums {
  const float* dy;                    // [voxels][channels]
  const float* x[kMaxDepthwiseRows];  // what the first voxel reads by the first tap
  float* sums[kMaxDepthwiseRows];     // [taps][nextSum]
  int64_t xStep, tapStep;             // voxels of x between those that read, and between taps
  int64_t voxels;
  int64_t channels;             // of a voxel
  int64_t first, end, nextSum;  // channels that are summed
};

struct DepthwiseKernels {
  int lanes;
  GatheredRowsKernel run;  // of kMaxDepthwiseRuns runs at most
  // [rows - 1][taps - 1]
  void (*sum[kMaxDepthwiseRows][kMaxTapRun])(const DepthwiseSums&);
};

}  // namespace cpu
}  // namespace voxgrad
