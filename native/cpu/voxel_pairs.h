// Convolutions of few voxels and many channels, as in the deepest layers of a network, tap by tap: their
// weights are most of what they read or write, and each meets few voxels.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/conv_problem.h"
#include "few_voxels_kernels.h"

namespace voxgrad::cpu {

// Of the input and of the output; one group, several taps.
bool hasFewVoxels(const Conv3dProblem& problem);

// What each tap reads and adds to; those of tap t end at ends[t].
struct VoxelPairs {
  // Voxels of x, and of y, are so many floats apart. An input gradient reads y and adds to x.
  VoxelPairs(const Conv3dProblem& problem, int64_t xVoxel, int64_t yVoxel, bool inputGradient);

  // Calls visit(tap, its pairs, their number).
  template <typename Visit>
  void forEachTap(Visit visit) const {
    int64_t tap = 0, first = 0;
    for (const int64_t end : ends) {
      visit(tap++, all.data() + first, end - first);
      first = end;
    }
  }

  std::vector<VoxelPair> all;
  std::vector<int64_t> ends;
};

}  // namespace voxgrad::cpu
