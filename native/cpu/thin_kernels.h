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
  int64_t voxels, reduced, channels;
  const SourceNorm* norm;  // or null
};

constexpr int kMaxThinChannels = 3;

struct ThinKernels {
  int lanes;
  void (*run)(const ThinRow&);  // up to kMaxThinChannels channels
};

}  // namespace cpu
}  // namespace voxgrad
