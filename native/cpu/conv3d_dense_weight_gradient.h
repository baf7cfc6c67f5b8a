// The weight gradient of blockwise convolutions (see conv3d_dense.h): a product of two matrices whose common
// axis are the voxels of y.
//
// The rows of voxels are divided into slabs, each with sums of its own, added in order at the end. Slabs
// depend on the problem alone, so the result does not depend on the number of threads.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class DenseWeightGradient final : public NormalizingWeightGradient {
 public:
  explicit DenseWeightGradient(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Column;  // some vectors of one run

  Column column(int64_t index) const;
  int64_t runFloats() const { return runVectors_ * kernels_.lanes; }
  int64_t filterSums() const { return runs_ * runFloats(); }
  // With one slab and runs of whole vectors the sums are the gradient itself.
  bool inPlace() const { return slabs_ == 1 && run_ % kernels_.lanes == 0; }
  // Runs of whole vectors need no gathering, unless a column would skip most of every run.
  bool readsRows() const { return run_ % kernels_.lanes == 0 && columns_ == 1; }
  const float* placeOf(const float* x, int64_t voxel) const;
  void gatherColumn(const ConvolutionSource& x, const Column& column, int64_t first, int64_t voxels,
                    float* to) const;
  void sumTask(const ConvolutionSource& x, const float* dy, int64_t task, float* sums) const;
  void reduceFilter(int64_t k, const float* sums, float* dw) const;

  const Conv3dProblem problem_;  // voxels of pointwise problems are joined to one row
  const DenseSumKernels& kernels_;
  const int64_t run_, runs_;      // floats in a run of x, and runs that a voxel meets
  int64_t runVectors_, columns_;  // of one run
  int64_t voxels_, slabs_;
  int64_t columnGroups_, ranges_;  // tasks of a slab: columns, and ranges of output channels
};

}  // namespace voxgrad::cpu
