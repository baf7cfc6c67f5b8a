#include "conv3d_mirrored.h"

#include <utility>
#include <vector>

#include "conv3d_planar.h"
#include "conv3d_stem.h"

namespace voxgrad::cpu {

bool isMirrored(const Conv3dProblem& p) {
  const int64_t taps[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis)
    if (p.stride[axis] != 1 || p.pad[axis] > (taps[axis] - 1) * p.dilation[axis]) return false;
  if (p.groups != 1 || p.taps() == 1 || p.adds) return false;
  const Conv3dProblem other = mirrored(p);
  return isStem(other) || Planar::fits(other);
}

Conv3dProblem mirrored(const Conv3dProblem& p) {
  Conv3dProblem other = p;
  std::swap(other.D, other.Z);
  std::swap(other.H, other.P);
  std::swap(other.W, other.Q);
  std::swap(other.C, other.K);
  std::swap(other.xPitch, other.yPitch);
  const int64_t taps[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis) other.pad[axis] = (taps[axis] - 1) * p.dilation[axis] - p.pad[axis];
  return other;
}

MirroredInputGradient::MirroredInputGradient(const Conv3dProblem& problem,
                                             std::unique_ptr<Convolution> forward)
    : problem_(problem), forward_(std::move(forward)) {}

void MirroredInputGradient::pack(const float* w, float* packed) const {
  const int64_t C = problem_.C, K = problem_.K, taps = problem_.taps();
  std::vector<float> filters(static_cast<size_t>(C * taps * K));
  for (int64_t k = 0; k < K; ++k)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < C; ++c)
        filters[static_cast<size_t>((c * taps + taps - 1 - tap) * K + k)] = w[(k * taps + tap) * C + c];
  forward_->pack(filters.data(), packed);
}

}  // namespace voxgrad::cpu
