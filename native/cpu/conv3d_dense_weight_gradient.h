// The weight gradient of blockwise convolutions (see conv3d_dense.h): a product of two matrices whose common
// axis are the voxels of y.
//
// The voxels are divided into slabs, each with sums of its own, added in order at the end. Slabs depend on
// the problem alone, so the result does not depend on the number of threads.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "dense_sum_kernels.h"
#include "isa.h"

namespace voxgrad::cpu {

class DenseWeightGradient final : public NormalizingWeightGradient {
 public:
  explicit DenseWeightGradient(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Column;  // some vectors of what a voxel meets, of one run or several
  struct Chunk;   // some voxels of a slab
  struct Part;    // what a task sums
  struct Division;

  int64_t runFloats() const { return runVectors_ * lanes_; }
  int64_t filterSums() const { return runs_ * runFloats(); }
  int64_t voxelPitch() const { return problem_.stride[2] * problem_.C; }
  // With one slab and runs of whole vectors the sums are the gradient itself.
  bool inPlace() const { return slabs_ == 1 && run_ % lanes_ == 0; }
  // Short runs of whole vectors are read where they are.
  bool readsRows() const { return run_ % lanes_ == 0 && runVectors_ <= kMaxProductVectors; }
  // Voxels of y as whole rows of a plane, or a part of one row.
  struct Patch {
    int64_t lines, voxels;
  };
  Patch patchAt(int64_t first, int64_t most) const;
  int64_t rowPitch() const { return problem_.stride[1] * problem_.W * problem_.C; }
  Division divide(int64_t columns) const;
  Part partOf(int64_t task, int64_t columns) const;
  int64_t tasks(int64_t columns) const;
  const float* placeOf(const float* x, int64_t voxel) const;
  int64_t runOffset(int64_t run) const;
  int64_t factorsAhead(int64_t channel, int64_t channels) const;
  void sumRows(const float* x, const float* dy, int64_t task, float* sums) const;
  void reduceFilter(int64_t k, const float* sums, float* dw) const;

  // Longer ones are gathered, a chunk at a time: see conv3d_dense_weight_gradient_columns.cc.
  int64_t columns() const;
  int64_t chunks() const;  // of a slab
  Chunk chunkOf(int64_t slab, int64_t index) const;
  Column columnOf(int64_t index) const;
  void gather(const Column& column, const Chunk& chunk, const ConvolutionSource& x, float* to) const;
  void sumColumns(const ConvolutionSource& x, const float* dy, int64_t task, float* sums) const;
  static int64_t lineOf(const Column& column, int64_t index);

  const Conv3dProblem problem_;  // voxels of pointwise problems are joined to one row
  const int64_t lanes_;
  const int64_t run_, runs_;  // floats in a run of x, and runs that a voxel meets
  int64_t runVectors_;        // of one run
  int64_t voxels_, slabs_;
};

struct DenseWeightGradient::Part {
  int64_t slab, firstVoxel, endVoxel;
  int64_t firstColumn, endColumn;
  int64_t firstChannel, endChannel;  // of dy
};

}  // namespace voxgrad::cpu
