// The weight gradient of many channels on the matrix unit (see amx_kernels.h): each tap of the kernel is a
// product, dy transposed times x, over the voxels that the tap finds inside x and no others.
//
// A task owns one tap, a part of either side's channels, and a slab of the voxels, with sums of its own that
// stay in the second-level cache; slabs are added in order at the end. Where all voxels fit one chunk, sums
// are stored as they are made.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class AmxWeightGradient final : public NormalizingWeightGradient {
 public:
  explicit AmxWeightGradient(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  // Output voxels of one axis that find a tap inside x.
  struct Span {
    int64_t first, count, offset;  // offset: of the source voxel from the output voxel times the stride
  };
  struct Channels {
    int64_t first, count;

    int64_t blocks() const { return divideUp(count, kAmxRows); }
  };
  struct Task {
    int64_t tap;
    Channels outputs, inputs;
    Span span[3];
    int64_t voxels;  // of all samples
  };
  struct Panels {
    char *left, *right;
    int64_t steps;
  };

  Span spanOf(int axis, int64_t tap) const;
  Channels part(int64_t channels, int64_t parts, int64_t index) const;
  Task taskOf(int64_t index) const;
  int64_t tasks() const { return problem_.taps() * outputParts_ * inputParts_; }
  int64_t sumFloats() const { return outputBlocks_ * inputBlocks_ * kAmxRows * kAmxColumns; }
  void sumTask(const ConvolutionSource& x, const float* dy, const Task& task, int64_t slab, float* sums,
               float* dw) const;
  void fillPanels(const ConvolutionSource& x, const float* dy, const Task& task, int64_t firstVoxel,
                  int64_t voxels, Panels& panels) const;
  float* placeOf(const Task& task, int64_t output, int64_t inputBlock, float* dw) const;
  void store(const Task& task, int64_t outputBlock, int64_t inputBlock, const float* sums, float* dw) const;
  void addSlabs(int64_t index, float* sums, float* dw) const;

  const Conv3dProblem problem_;
  const AmxKernels& kernels_;
  int64_t outputParts_, inputParts_;    // of the channels
  int64_t outputBlocks_, inputBlocks_;  // of a part, at most
  int64_t slabs_;
  bool inOneChunk_;
};

}  // namespace voxgrad::cpu
