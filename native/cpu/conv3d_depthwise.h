// Convolutions in which every channel is its own group with one filter (C = K = groups).
#pragma once

#include "../core/conv_problem.h"
#include "convolution.h"

namespace voxgrad::cpu {

inline bool isDepthwise(const Conv3dProblem& p) { return p.groups > 1 && p.C == p.groups && p.K == p.groups; }

class Depthwise final : public Convolution {
 public:
  // `problem` must be depthwise.
  Depthwise(const Conv3dProblem& problem, bool inputGradient)
      : problem_(problem), inputGradient_(inputGradient) {}

  size_t packedFloats() const override { return static_cast<size_t>(problem_.taps() * problem_.C); }
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override { return 0; }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  const Conv3dProblem problem_;
  const bool inputGradient_;
};

class DepthwiseWeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit DepthwiseWeightGradient(const Conv3dProblem& problem) : problem_(problem) {}

  size_t workspace() const override { return 0; }
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  const Conv3dProblem problem_;
};

}  // namespace voxgrad::cpu
