// Pointwise convolutions to a few channels, such as the heads of segmentation networks: a lane for each of
// them would leave most of a vector empty, so lanes are input channels, and sums over lanes the outputs.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

// True where y has so few channels that sums over the lanes cost less than empty lanes.
bool isThin(const Conv3dProblem& problem);

// The forward pass.
class Thin final : public NormalizingConvolution {
 public:
  explicit Thin(const Conv3dProblem& problem);

  size_t packedFloats() const override { return static_cast<size_t>(problem_.K * problem_.C); }
  void pack(const float* w, float* packed) const override;

  size_t workspace() const override { return 0; }
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  const Conv3dProblem problem_;
  const int64_t voxels_;
};

}  // namespace voxgrad::cpu
