// The table of micro-kernels behind the weight gradients of convolutions that are dense matrix products of
// few columns. Compiled once per instruction set. Structs of plain data only: sources of every instruction
// set include this file.
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

struct DenseSumKernels {
  int lanes;
  // Of a column of gathered runs, which stays in the first-level cache.
  int columnVectors;
  int maxProductChannels[kMaxProductVectors];
  DenseProductKernel product[kMaxProductVectors][kMaxProductChannels];  // [vectors - 1][channels - 1]
};

}  // namespace cpu
}  // namespace voxgrad
