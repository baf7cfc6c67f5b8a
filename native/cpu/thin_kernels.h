// The table of micro-kernels behind pointwise convolutions to a few channels, compiled once per instruction
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
  bool fetches;  // lines of the output before they are stored
};
using ThinGradientKernel = void (*)(const ThinGradientRow&);

struct ThinKernels {
  int lanes;
  ThinKernel run[kMaxThinChannels];  // [channels - 1]
  ThinGradientKernel gradient[kMaxThinChannels];
};

}  // namespace cpu
}  // namespace voxgrad
