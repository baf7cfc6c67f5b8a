// How dense products normalise what they read: in blocks that stay in the second-level cache.
#include "conv3d_dense.h"

namespace voxgrad::cpu {

SourceNorm spreadNorm(const SourceNorm& norm, int64_t channels, int64_t floats, int64_t padded, float* to) {
  const float* const rows[3] = {norm.mean, norm.scale, norm.shift};
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t i = 0; i < padded; ++i) to[row * padded + i] = i < floats ? rows[row][i % channels] : 0.0f;
  }
  return {to, to + padded, to + 2 * padded};
}

// Normalises what groups of voxels read, [group][segment][voxel][paddedSteps()], in memory of this thread,
// and lets their places point there.
void Dense::normalize(const SourceNorm& norm, DensePlace* places, int64_t groups) const {
  const int64_t segmentFloats = kernels_.groupVoxels * paddedSteps();
  float* const to =
      threadScratch<Line>(static_cast<size_t>(divideUp(groups * segments_ * segmentFloats, 16)))->floats;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t s = 0; s < segments_; ++s) {
      const int64_t tap = s / problem_.S * x_.tapStep(0) + s % problem_.S * x_.tapStep(1);
      kernels_.normalizeRuns(to + (g * segments_ + s) * segmentFloats, paddedSteps(), places[g].source + tap,
                             sourceStride_, kernels_.groupVoxels, steps_, norm);
    }
    places[g].source = to + g * segments_ * segmentFloats;
  }
}

}  // namespace voxgrad::cpu
