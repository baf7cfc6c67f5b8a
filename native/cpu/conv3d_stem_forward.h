// The forward pass of a stem (see conv3d_stem.h), as a product of weights and the runs of source floats below
// a row of taps.
//
// A block of rows of y copies the window of x that it reads, with zeros at both ends of every row; planes and
// rows of taps in the padding are left out.
#pragma once

#include "conv3d_stem.h"
#include "conv3d_stem_blocks.h"

namespace voxgrad::cpu {

class Stem final : public Convolution {
 public:
  explicit Stem(const Conv3dProblem& problem);

  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* x, const float* packed, const float* bias, float* y, void* workspace) const override;

 private:
  struct Window;  // of a block

  void runBlock(const float* x, const float* packed, const float* bias, float* y, int64_t index) const;
  void runRows(const Window& window, const float* packed, const float* bias, float* y, int64_t plane,
               int64_t row, int64_t rows) const;

  const Conv3dProblem problem_;
  const PaddedSource x_;
  const DenseKernels& kernels_;
  const int64_t steps_, vectors_;  // floats in a run, vectors of a voxel of y
  const int64_t groupsPerRow_;
  const bool inLines_;  // the voxels of a row are one source float apart
  const StemBlocks blocks_;
};

}  // namespace voxgrad::cpu
