// The table of micro-kernels behind convolutions of several taps to a few channels, compiled once per
// instruction set. Structs of plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

constexpr int kMaxThinTaps = 3;
constexpr int kMaxThinRows = 2;
constexpr int kMaxThinTapsChannels = 4;

// A row of the source, and the weights by which each row of the output reads it: null where it does not.
struct ThinSourceRow {
  const float* source;  // [sourceVoxels][reduced]
  const float* weights[kMaxThinRows];
  const float* ahead;  // another, to fetch meanwhile, or null
};

// Some taps of a row; they are as far apart as what its voxels read.
struct ThinTaps {
  int64_t place;  // the voxel of the source that the first output reads by the first tap; it may lie outside
  int64_t weights;  // floats from the weights of the row to those of the first tap, [channels][lanes]
  int64_t count;    // at most kMaxThinTaps
};

// Voxels along some rows of the output of a convolution to fewer channels than lanes, or of its input
// gradient.
struct ThinTapsRows {
  const ThinSourceRow* sources;
  int64_t sourceRows;
  const ThinTaps* taps;
  int64_t runs;  // of taps
  int64_t sourceStep, sourceVoxels;
  int64_t reduced;                 // channels of the source
  int64_t nextTap, vectorWeights;  // floats of weights from tap to tap, and for each vector of channels
  const float* bias;               // [channels] or null
  float* outputs[kMaxThinRows];    // [voxels][outputStep][channels]
  int64_t rows;                    // at most ThinTapsKernels::maxRows
  int64_t voxels, outputStep;
};
using ThinTapsKernel = void (*)(const ThinTapsRows&);

struct ThinTapsKernels {
  int lanes;
  int maxRows[kMaxThinTapsChannels];  // [channels - 1]
  ThinTapsKernel run[kMaxThinTapsChannels];
};

}  // namespace cpu
}  // namespace voxgrad
