// Input gradients as forward passes: with stride 1, that of a convolution is the convolution of dy with the
// filters mirrored, their input and output channels exchanged. From few channels it is then a stem, and to
// few a convolution on planar rows.
#pragma once

#include <memory>

#include "../core/conv_problem.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Whether the input gradient is computed so.
bool isMirrored(const Conv3dProblem& problem);

// The problem whose forward pass is the input gradient of this one.
Conv3dProblem mirrored(const Conv3dProblem& problem);

class MirroredInputGradient final : public Convolution {
 public:
  MirroredInputGradient(const Conv3dProblem& problem, std::unique_ptr<Convolution> forward);

  size_t packedFloats() const override { return forward_->packedFloats(); }
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override { return forward_->workspace(); }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override {
    forward_->run(source, packed, bias, output, workspace);
  }

 private:
  const Conv3dProblem problem_;
  const std::unique_ptr<Convolution> forward_;  // of the mirrored problem
};

}  // namespace voxgrad::cpu
