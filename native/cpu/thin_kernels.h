// The table of micro-kernels behind convolutions to a few channels, compiled once per instruction
// set. Structs of plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_norm.h"

namespace voxgrad {
namespace cpu {

// Voxels of a pointwise convolution to fewer output channels than lanes.
struct ThinRow {
  const float* source;   // [voxels][reduced]
  const float* weights;  // [channels][reduced]
  const float* bias;     // [channels] or null
  float* output;         // [voxels][channels]
  int64_t voxels, reduced;
  const SourceNorm* norm;  // or null
};

using ThinKernel = void (*)(const ThinRow&);

constexpr int kMaxThinChannels = 4;

// Voxels of the input gradient of one.
struct ThinGradientRow {
  const float* source;   // [voxels][channels]
  const float* weights;  // [vectors of the output][channels][lanes]
  const float* bias;     // [vectors of the output][lanes]
  float* output;         // [voxels][produced]
  int64_t voxels, produced;
};
using ThinGradientKernel = void (*)(const ThinGradientRow&);

constexpr int kMaxThinTaps = 3;

// Some taps that every output of a row reads; they are as far apart as what its voxels read.
struct ThinTaps {
  const float* source;   // a row: [sourceVoxels][reduced]
  const float* weights;  // of the first tap: [channels][lanes], then by steps of vectorWeights
  int64_t place;         // the voxel of the row that the first output reads; it may lie outside
  int64_t count;         // at most kMaxThinTaps
};

// Voxels along a row of the output of a convolution to fewer channels than lanes, or of its input gradient.
struct ThinTapsRow {
  const ThinTaps* taps;
  int64_t count;
  int64_t sourceStep, sourceVoxels;
  int64_t reduced;                 // channels of the source
  int64_t nextTap, vectorWeights;  // floats of weights from tap to tap, and for each vector of channels
  const float* bias;               // [channels] or null
  float* output;                   // [voxels][outputStep][channels]
  int64_t voxels, outputStep;
};
using ThinTapsKernel = void (*)(const ThinTapsRow&);

constexpr int kMaxThinTapsChannels = 4;

struct ThinKernels {
  int lanes;
  ThinKernel run[kMaxThinChannels];  // [channels - 1]
  ThinGradientKernel gradient[kMaxThinChannels];
  ThinTapsKernel taps[kMaxThinTapsChannels];  // [channels - 1]
};

}  // namespace cpu
}  // namespace voxgrad
