// Convolutions of several taps to a few channels, such as the input gradients of first layers: as in
// conv3d_thin.h, lanes are channels of the source, and sums over lanes the outputs.
#pragma once

#include "conv3d_source_rows.h"
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
  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t reduced_, produced_;
  const SourceRows sources_;
};

}  // namespace voxgrad::cpu
