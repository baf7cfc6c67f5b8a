// Pointwise convolutions as products of a matrix whose rows are voxels: one kernel call takes hundreds of
// voxels through tiles that fill the registers.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "dense_kernels.h"

namespace voxgrad::cpu {

// The forward pass or the input gradient of a pointwise kernel with stride 1.
class Pointwise final : public NormalizingConvolution {
 public:
  static bool fits(const Conv3dProblem& problem);
  Pointwise(const Conv3dProblem& problem, bool inputGradient);

  bool places() const override { return !problem_.adds; }
  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;

  bool normalizes() const override { return cut().columnTasks == 1; }
  size_t workspace() const override;
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  // Neighbouring voxels that one task takes through some columns: their source stays in the second-level
  // cache, the weights of a column in the first.
  struct Blocks {
    int64_t tiles, count, columnTasks;
  };
  Blocks cut() const;
  int64_t paddedSteps() const { return divideUp(steps_, kernels_.lanes) * kernels_.lanes; }
  // Of the widest column.
  int64_t tileVoxels() const {
    return kernels_.spanVoxels[std::min<int64_t>(vectors_, kMaxDenseVectors) - 1];
  }

  const Conv3dProblem problem_;
  const DenseKernels& kernels_;
  const bool inputGradient_;
  const int64_t voxels_;
  int64_t sourceStride_, outputStride_;
  int64_t steps_, channels_;   // of the source, of the output
  int64_t vectors_, columns_;  // of the output; a column is up to kMaxDenseVectors vectors
};

}  // namespace voxgrad::cpu
