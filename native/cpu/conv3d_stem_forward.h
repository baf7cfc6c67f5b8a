// The forward pass of a stem (see conv3d_stem.h), as a product of weights and the runs of source floats below
// a row of taps.
//
// A block of rows of y copies the window of x that it reads, with zeros at both ends of every row; planes and
// rows of taps in the padding are left out. Blocks depend on the problem alone.
#pragma once

#include "conv3d_stem.h"

namespace voxgrad::cpu {

class Stem final : public Convolution {
 public:
  explicit Stem(const Conv3dProblem& problem);

  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* x, const float* packed, const float* bias, float* y, void* workspace) const override;

 private:
  struct Taps;    // of one axis, those that read inside x
  struct Window;  // of a block

  void chooseBlocks();
  int64_t windowExtent(int axis, int64_t outputs) const;
  Taps tapsInside(int axis, int64_t output) const;
  void runBlock(const float* x, const float* packed, const float* bias, float* y, int64_t block) const;
  void runRows(const Window& window, const float* packed, const float* bias, float* y, int64_t plane,
               int64_t row, int64_t rows) const;

  const Conv3dProblem problem_;
  const PaddedSource x_;
  const DenseKernels& kernels_;
  const int64_t steps_, vectors_;  // floats in a run, vectors of a voxel of y
  const int64_t groupsPerRow_;
  const bool inLines_;                       // the voxels of a row are one source float apart
  int64_t blockPlanes_ = 1, blockRows_ = 1;  // of y in a block
};

}  // namespace voxgrad::cpu
