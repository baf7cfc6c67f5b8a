// The table of micro-kernels behind convolutions that are dense matrix products: blocks that do not overlap,
// pointwise kernels, and stems of few input channels. Compiled once per instruction set. Structs of plain
// data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

#include "source_norm.h"

namespace voxgrad {
namespace cpu {

constexpr int kMaxDenseGroups = 6;
constexpr int kMaxDenseVectors = 2;

struct DenseJump {
  int64_t source, weights;  // floats from the end of a run, and of its weights, to the next
};

// A group of neighbouring voxels of a row.
struct DensePlace {
  const float* source;  // the first run of its first voxel
  float* output;        // of its first voxel
  int64_t ahead;        // floats from there to a source that is worth fetching
};

// A tile of output voxels times a block of output channels, accumulated in registers. The voxels come in
// groups of DenseKernels::groupVoxels neighbours along a row; every voxel meets the same runs of source
// floats, each at the same distance from the run before.
struct DenseTile {
  const DensePlace* places;  // [groups]
  const DenseJump* jumps;    // [segments]
  int64_t segments;          // runs
  int64_t steps;             // floats in a run
  int64_t sourceStride;      // floats between the runs of neighbouring voxels of a group
  const float* weights;      // of a run: [steps][vectors][lanes]
  int64_t outputAt;          // floats from the output of a place to that of the tile's first channel
  int64_t outputStride;      // floats between neighbouring voxels of a group
  // [groups] or null: a later tile, whose lines of the output are fetched. Stores that miss wait for each
  // other.
  const DensePlace* placesAhead;
  bool streams;       // whole vectors are stored past the caches
  const float* bias;  // [vectors][lanes]
  int64_t channels;   // output channels to store
  // Set to zero meanwhile, by `clearing` kernels: products leave room for stores.
  float* zeros;
  int64_t zeroFloats;
};
using DenseKernel = void (*)(const DenseTile&);

// Neighbouring voxels of a row, that one call takes through tiles which fill the registers.
struct DenseSpan {
  const float* source;     // the first run of the first voxel
  int64_t sourceStride;    // floats between the runs of neighbouring voxels
  const DenseJump* jumps;  // [lastSegment]
  int64_t lastSegment;     // one less than there are runs
  int64_t steps;           // floats in a run
  const float* weights;    // of a run: [steps][vectors][lanes]
  const float* bias;       // [vectors][lanes]
  float* output;           // of the first voxel
  int64_t outputStride;
  int64_t channels;  // output channels to store
  int64_t voxels;    // at least DenseKernels::spanVoxels
  bool fetches;      // lines of the output, which come from memory, ahead of their stores
  bool streams;      // whole vectors are stored past the caches
  // Whether the last vector of a voxel may run over into the voxels behind it, as long as these are of the
  // same span: they are stored later.
  bool spills;
};

struct DenseKernels {
  int lanes;
  int groupVoxels;
  int maxGroups[kMaxDenseVectors];
  DenseKernel tile[kMaxDenseVectors][kMaxDenseGroups];  // [vectors - 1][groups - 1]; null beyond maxGroups
  DenseKernel clearing[kMaxDenseVectors][kMaxDenseGroups];
  // The same for voxels in one line, one source float apart: the first group's pointers are enough.
  DenseKernel line[kMaxDenseVectors][kMaxDenseGroups];
  int spanVoxels[kMaxDenseVectors];  // of a tile
  void (*span[kMaxDenseVectors])(const DenseSpan&);

  // Gathers `floats` floats of each voxel, `stride` floats apart, by way of normalisation and ReLU; voxels
  // lie `toStride` floats apart, and zeros fill the last vector. The coefficients are those of the floats of
  // a run.
  void (*normalizeRuns)(float* to, int64_t toStride, const float* from, int64_t stride, int64_t voxels,
                        int64_t floats, const SourceNorm& norm);
};

}  // namespace cpu
}  // namespace voxgrad
