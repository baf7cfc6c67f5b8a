#include "conv3d_stem_blocks.h"

namespace voxgrad::cpu {

StemBlocks::StemBlocks(const Conv3dProblem& p, int64_t rowFloats, int64_t windowFloats, int64_t leastBlocks)
    : problem_(p) {
  const auto read = [this](int64_t planes, int64_t rows) { return window(0, planes) * window(1, rows); };
  for (;;) {
    const int64_t planes = std::min(p.Z, 2 * planes_), rows = std::min(p.P, 2 * rows_);
    const bool deeper = rows == rows_ || (planes > planes_ && read(planes, rows_) < read(planes_, rows));
    const int64_t nextPlanes = deeper ? planes : planes_, nextRows = deeper ? rows_ : rows;
    const int64_t blocks = p.N * divideUp(p.Z, nextPlanes) * divideUp(p.P, nextRows);
    const bool grows = nextPlanes > planes_ || nextRows > rows_;
    if (!grows || blocks < leastBlocks || read(nextPlanes, nextRows) * rowFloats > windowFloats) break;
    planes_ = nextPlanes;
    rows_ = nextRows;
  }
  deep_ = divideUp(p.Z, planes_);
  across_ = divideUp(p.P, rows_);
}

StemBlock StemBlocks::at(int64_t index) const {
  const int64_t plane = index / across_ % deep_ * planes_, row = index % across_ * rows_;
  return {index / across_ / deep_, plane, row, std::min(problem_.Z, plane + planes_),
          std::min(problem_.P, row + rows_)};
}

int64_t StemBlocks::window(int axis, int64_t outputs) const {
  const int64_t kernel = axis == 0 ? problem_.R : problem_.S;
  return (outputs - 1) * problem_.stride[axis] + (kernel - 1) * problem_.dilation[axis] + 1;
}

StemTaps StemBlocks::tapsInside(int axis, int64_t output) const {
  const int64_t kernel = axis == 0 ? problem_.R : problem_.S, extent = axis == 0 ? problem_.D : problem_.H;
  const int64_t before = problem_.pad[axis] - output * problem_.stride[axis], until = before + extent;
  const int64_t dilation = problem_.dilation[axis];
  const int64_t first = before > 0 ? std::min(kernel, divideUp(before, dilation)) : 0;
  const int64_t end = until > 0 ? std::min(kernel, divideUp(until, dilation)) : 0;
  return {first, std::max(first, end)};
}

int64_t StemBlocks::endOfAlike(int64_t row, int64_t end) const {
  const StemTaps taps = tapsInside(1, row);
  int64_t next = row + 1;
  while (next < end && tapsInside(1, next) == taps) ++next;
  return next;
}

}  // namespace voxgrad::cpu
