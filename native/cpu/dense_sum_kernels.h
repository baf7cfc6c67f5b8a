// The table of micro-kernels behind the weight gradients of convolutions that are dense matrix products, and
// of stems. Compiled once per instruction set. Structs of plain data only: sources of every instruction set
// include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// Sums over voxels of products: sums[k][vector][lane] += factors[voxel][k] * runs[voxel][vector][lane].
struct DenseProduct {
  const float* factors;
  int64_t factorStride;        // floats between voxels
  int64_t factorsAhead;        // floats from those of a voxel to others that are worth fetching
  const float* runs;           // [lines][voxels][vectors of the kernel][lanes]
  int64_t runStride, runLine;  // floats between voxels and between lines
  int64_t lines, voxels;       // lines of voxels
  float* sums;                 // [channels][sumStride]
  int64_t sumStride;           // floats
  bool fresh;                  // sums start at zero, not at what is there
  const float* next;           // to fetch meanwhile, a cache line per voxel
  int64_t nextStride, nextLine;
};
using DenseProductKernel = void (*)(const DenseProduct&);

constexpr int kMaxProductChannels = 12;
constexpr int kMaxProductVectors = 4;

// Sums over voxels of the products of some channels of the output gradient with the source floats of some
// taps: sums[vector][row][j][lane] += source[row][voxel * sourceStride + j] * gradient[voxel][vector][lane].
struct StemProduct {
  const float* const* sources;  // [rows of the kernel]: at the first voxel of the first line
  const float* gradient;        // [lines][voxels][vectors of the kernel][lanes]
  int64_t lines, voxels;        // lines of voxels
  int64_t sourceStride;         // floats between voxels
  int64_t sourceLine;           // floats between lines
  float* sums;                  // [vectors][rows][run][lanes], added to
  int64_t sumVector;            // floats between vectors
  const float* next;            // to fetch meanwhile, a cache line per voxel
  int64_t nextStride;
};
using StemProductKernel = void (*)(const StemProduct&);

constexpr int kMaxStemFloats = 28;
constexpr int kMaxStemVectors = 2;

struct DenseSumKernels {
  int lanes;

  int maxProductChannels[kMaxProductVectors];
  DenseProductKernel product[kMaxProductVectors][kMaxProductChannels];  // [vectors - 1][channels - 1]

  // [vectors - 1]: gathers `floats` floats of each voxel, `stride` floats apart; zeros fill the last vector.
  void (*gatherRuns[kMaxProductVectors])(float* to, const float* from, int64_t stride, int64_t voxels,
                                         int64_t floats);

  int stemVectors;  // that a kernel takes at most
  int maxStemFloats[kMaxStemVectors];
  // [vectors - 1][run - 1][rows - 1]; null where the product exceeds
  StemProductKernel stem[kMaxStemVectors][kMaxStemFloats][kMaxStemFloats];
};

}  // namespace cpu
}  // namespace voxgrad
