// Walks the voxels of all samples in order, the last axis fastest.
#pragma once

#include <cstdint>

namespace voxgrad::cpu {

struct GridCursor {
  int64_t counts[3];
  int64_t n = 0, at[3] = {0, 0, 0};

  // At the index-th voxel; no count may be 0.
  GridCursor(int64_t d, int64_t h, int64_t w, int64_t index) : counts{d, h, w} {
    for (int axis = 2; axis >= 0; --axis) {
      at[axis] = index % counts[axis];
      index /= counts[axis];
    }
    n = index;
  }

  void advance() {
    for (int axis = 2; axis >= 0; --axis) {
      if (++at[axis] < counts[axis]) return;
      at[axis] = 0;
    }
    ++n;
  }
};

}  // namespace voxgrad::cpu
