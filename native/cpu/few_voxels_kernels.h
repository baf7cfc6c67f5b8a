// The table of micro-kernels behind convolutions of few voxels, compiled once per instruction set. Structs of
// plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// Filters that a kernel takes at most: as many as share what is loaded of a source, or of sums.
constexpr int kForwardFilters = 4, kGradientFilters = 16;

// Where a voxel begins that a tap reads, and the one that it adds to: floats.
struct VoxelPair {
  int64_t source, output;
};

// One tap of some filters, which lie as a weight [K, R, S, T, C] has them.
struct FilterTap {
  const VoxelPair* pairs;  // no two of the same output
  int64_t count;
  const float* source;
  float* output;
  const float* weights;  // [filters], `nextFilter` floats apart, of [channels], which are whole vectors
  int64_t nextFilter, filters, channels;
};

// The gradient of one: the sum over all pairs of sources [channels] times outputs' gradients [filters].
struct FilterTapGradient {
  const VoxelPair* pairs;
  int64_t count;
  const float *source, *outputGradient;
  float* weights;  // as those of a FilterTap, of any number of channels
  int64_t nextFilter, filters, channels;
};

struct FewVoxelsKernels {
  // Adds to outputs [filters] what filters make of sources [channels].
  void (*forward)(const FilterTap& tap);
  // Adds to outputs [channels] what sources [filters] make of filters.
  void (*inputGradient)(const FilterTap& tap);
  // Of `weightGradientFilters` at most.
  void (*weightGradient)(const FilterTapGradient& tap);
  int weightGradientFilters;
};

}  // namespace cpu
}  // namespace voxgrad
