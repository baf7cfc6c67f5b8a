// Convolutions of several taps to a few channels, such as the input gradients of first layers: as in
// conv3d_thin.h, lanes are channels of the source, and sums over lanes the outputs.
#pragma once

#include <utility>
#include <vector>

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

// True where a convolution to a few channels, or its input gradient, costs less so than with empty lanes.
bool isThinWithTaps(const Conv3dProblem& problem, bool inputGradient);

class ThinWithTaps final : public Convolution {
 public:
  ThinWithTaps(const Conv3dProblem& problem, bool inputGradient);

  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;

  size_t workspace() const override { return 0; }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Rows;
  struct Axes;

  std::vector<GatherAxis> axes(int a) const;
  std::pair<const ThinSourceRow*, int64_t> sourcesOf(const Rows& rows, const Axes& axes, const float* source,
                                                     const float* packed) const;

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t reduced_, produced_;
};

}  // namespace voxgrad::cpu
