// The blocks of planes and rows of y in which a stem is computed, and what they read of x. Blocks depend on
// the problem alone.
#pragma once

#include "conv3d_geometry.h"

namespace voxgrad::cpu {

// Along one axis, those that read inside x.
struct StemTaps {
  int64_t first, end;

  int64_t count() const { return end - first; }
  bool operator==(const StemTaps& other) const { return first == other.first && end == other.end; }
};

struct StemBlock {
  int64_t sample, plane, row;  // of y: the first
  int64_t endPlane, endRow;
};

class StemBlocks {
 public:
  // The larger a block, the less of x is read for two of them; a window, of `rowFloats` for each row of x, is
  // to stay within `windowFloats`, and there are `leastBlocks` of them where the size allows.
  StemBlocks(const Conv3dProblem& problem, int64_t rowFloats, int64_t windowFloats, int64_t leastBlocks);

  int64_t count() const { return problem_.N * deep_ * across_; }
  StemBlock at(int64_t index) const;

  // Planes (axis 0) or rows (axis 1) of x that so many outputs read, those between their taps included.
  int64_t window(int axis, int64_t outputs) const;
  // The most rows of x that a block reads.
  int64_t windowRows() const { return window(0, planes_) * window(1, rows_); }
  StemTaps tapsInside(int axis, int64_t output) const;
  // The row behind those from `row` on, and before `end`, whose taps inside x are the same.
  int64_t endOfAlike(int64_t row, int64_t end) const;

 private:
  const Conv3dProblem problem_;
  int64_t planes_ = 1, rows_ = 1;  // of y in a block
  int64_t deep_, across_;          // blocks along these axes
};

}  // namespace voxgrad::cpu
