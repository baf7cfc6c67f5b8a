// The table of micro-kernels behind convolutions of several taps to a few channels, compiled once per
// instruction set. Structs of plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_row.h"

namespace voxgrad {
namespace cpu {

constexpr int kMaxThinTapsChannels = 4;

// Voxels along some rows of the output of a convolution to fewer channels than lanes, or of its input
// gradient.
struct ThinTapsRows {
  const SourceRow* sources;
  int64_t sourceRows;
  const TapRun* taps;  // their weights are [channels][lanes]
  int64_t runs;        // of taps
  int64_t sourceStep, sourceVoxels;
  int64_t reduced;                 // channels of the source
  int64_t nextTap, vectorWeights;  // floats of weights from tap to tap, and for each vector of channels
  const float* bias;               // [channels] or null
  float* outputs[kMaxOutputRows];  // [voxels][outputStep][channels]
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
