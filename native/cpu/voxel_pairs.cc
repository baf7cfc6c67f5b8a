#include "voxel_pairs.h"

#include <algorithm>

#include "conv3d_geometry.h"

namespace voxgrad::cpu {

bool hasFewVoxels(const Conv3dProblem& p) {
  constexpr int64_t kMostVoxels = 128, kLeastChannels = 32;
  return p.groups == 1 && p.taps() > 1 && std::min(p.C, p.K) >= kLeastChannels &&
         p.N * std::max(p.D * p.H * p.W, p.Z * p.P * p.Q) <= kMostVoxels;
}

VoxelPairs::VoxelPairs(const Conv3dProblem& p, int64_t xVoxel, int64_t yVoxel, bool inputGradient) {
  ends.reserve(static_cast<size_t>(p.taps()));
  for (int64_t tap = 0; tap < p.taps(); ++tap) {
    const int64_t offsetD = tap / (p.S * p.T) * p.dilation[0] - p.pad[0];
    const int64_t offsetH = tap / p.T % p.S * p.dilation[1] - p.pad[1];
    const int64_t offsetW = tap % p.T * p.dilation[2] - p.pad[2];
    const ReachedOutputs insideD = reachedOutputs(p.Z, p.D, p.stride[0], offsetD);
    const ReachedOutputs insideH = reachedOutputs(p.P, p.H, p.stride[1], offsetH);
    const ReachedOutputs insideW = reachedOutputs(p.Q, p.W, p.stride[2], offsetW);
    for (int64_t n = 0; n < p.N; ++n) {
      for (int64_t z = insideD.first; z < insideD.last; ++z) {
        for (int64_t row = insideH.first; row < insideH.last; ++row) {
          const int64_t d = z * p.stride[0] + offsetD, h = row * p.stride[1] + offsetH;
          const int64_t xRow = ((n * p.D + d) * p.H + h) * p.W, yRow = ((n * p.Z + z) * p.P + row) * p.Q;
          for (int64_t q = insideW.first; q < insideW.last; ++q) {
            const int64_t x = (xRow + q * p.stride[2] + offsetW) * xVoxel, y = (yRow + q) * yVoxel;
            all.push_back(inputGradient ? VoxelPair{y, x} : VoxelPair{x, y});
          }
        }
      }
    }
    ends.push_back(static_cast<int64_t>(all.size()));
  }
}

}  // namespace voxgrad::cpu
