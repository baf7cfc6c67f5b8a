// The table of micro-kernels behind depthwise convolutions, compiled once per instruction set. Structs of
// plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_row.h"

namespace voxgrad {
namespace cpu {

constexpr int kMaxDepthwiseRuns = 16;  // of taps of a row
constexpr int kMaxDepthwiseRows = 3;   // of x, that share what is read of dy

// Some rows of the outputs of a depthwise convolution, or of its input gradient.
struct DepthwiseRows {
  const SourceRow* sources;
  int64_t sourceRows;
  const TapRun* taps;
  int64_t runs;  // at most kMaxDepthwiseRuns
  int64_t sourceStep, sourceVoxels, channels;
  int64_t nextTap, vectorWeights;  // floats of weights from tap to tap, and for each vector of channels
  const float* bias;               // [channels] or null
  float* outputs[kMaxOutputRows];  // [voxels][outputStep][channels]
  int64_t rows;
  int64_t voxels, outputStep;
  bool fetches;  // ahead: where the tensors are in no cache
};

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
  void (*run)(const DepthwiseRows&);
  // [rows - 1][taps - 1]
  void (*sum[kMaxDepthwiseRows][kMaxTapRun])(const DepthwiseSums&);
};

}  // namespace cpu
}  // namespace voxgrad
