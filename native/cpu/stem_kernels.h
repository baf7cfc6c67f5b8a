// The table of micro-kernels behind the weight gradients of stems. Compiled once per instruction set. Structs
// of plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

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

struct StemKernels {
  int lanes;
  int vectors;  // that a kernel takes at most
  int maxFloats[kMaxStemVectors];
  // [vectors - 1][run - 1][rows - 1]; null where the product exceeds
  StemProductKernel product[kMaxStemVectors][kMaxStemFloats][kMaxStemFloats];
};

}  // namespace cpu
}  // namespace voxgrad
