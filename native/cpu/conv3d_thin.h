// Pointwise convolutions to a few channels, such as the heads of segmentation networks: a lane for each of
// them would leave most of a vector empty, so lanes are input channels. Either pass does little with much
// memory.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

bool isThin(const Conv3dProblem& problem, bool inputGradient);

// The forward pass: outputs are sums over lanes.
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

// Broadcasts what it reads.
class ThinInputGradient final : public Convolution {
 public:
  explicit ThinInputGradient(const Conv3dProblem& problem);

  size_t packedFloats() const override { return static_cast<size_t>(vectors_ * problem_.K * lanes_); }
  void pack(const float* w, float* packed) const override;

  size_t workspace() const override;
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  const Conv3dProblem problem_;
  const int64_t voxels_, lanes_, vectors_;
};

}  // namespace voxgrad::cpu
