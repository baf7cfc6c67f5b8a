// Convolutions in which every channel is its own group with one filter (C = K = groups). Lanes are channels.
#pragma once

#include "conv3d_source_rows.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

bool isDepthwise(const Conv3dProblem& problem);

class Depthwise final : public Convolution {
 public:
  // `problem` must be depthwise.
  Depthwise(const Conv3dProblem& problem, bool inputGradient);

  size_t packedFloats() const override { return static_cast<size_t>(problem_.taps() * vectors_ * lanes_); }
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override { return 0; }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t lanes_, vectors_;  // of channels
  const SourceRows sources_;
};

// The lines of dy are divided into slabs, each with sums of its own, added in order at the end; slabs depend
// on the problem alone, so the result does not depend on the number of threads.
class DepthwiseWeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit DepthwiseWeightGradient(const Conv3dProblem& problem);

  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  // Taps of a row, and the outputs [first, last) along it that read inside x by all of them.
  struct Run {
    int64_t tap, taps, first, last;
  };
  void sumLine(const float* x, const float* dy, int64_t line, int64_t channel, int64_t end,
               float* sums) const;

  const Conv3dProblem problem_;
  const DepthwiseKernels& kernels_;
  const int64_t pitch_, lines_, slabs_, blocks_;  // blocks of channels
  std::vector<Run> runs_;
};

}  // namespace voxgrad::cpu
