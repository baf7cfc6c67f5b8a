// What kernels read that gather rows of a source into rows of outputs. Plain data only: sources of every
// instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

constexpr int kMaxTapRun = 3;
constexpr int kMaxOutputRows = 2;  // that share what they read

// A row of the source, and the weights by which each row of the output reads it: null where it does not.
struct SourceRow {
  const float* source;  // [voxels][channels]
  const float* weights[kMaxOutputRows];
  const float* ahead;  // another, to fetch meanwhile, or null
};

// Some taps of a row; they are as far apart as what its voxels read, unless there is but one.
struct TapRun {
  int64_t place;  // the voxel of the source that the first output reads by the first tap; it may lie outside
  int64_t weights;  // floats from the weights of the row to those of the first tap
  int64_t count;    // at most kMaxTapRun
};

// Some rows of outputs, each gathered from some rows of the source.
struct GatheredRows {
  const SourceRow* sources;
  int64_t sourceRows;
  const TapRun* taps;
  int64_t runs;
  int64_t sourceStep, sourceVoxels;
  int64_t channels;                // of the source
  int64_t nextTap, vectorWeights;  // floats of weights from tap to tap, and for each vector of channels
  const float* bias;               // [output channels] or null
  float* outputs[kMaxOutputRows];  // [voxels][outputStep][output channels]
  int64_t rows;                    // at most kMaxOutputRows
  int64_t voxels, outputStep;
  bool fetches;  // ahead: where the tensors are in no cache
};
using GatheredRowsKernel = void (*)(const GatheredRows&);

}  // namespace cpu
}  // namespace voxgrad
