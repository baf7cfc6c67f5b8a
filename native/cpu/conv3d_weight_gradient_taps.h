// The weight gradient for many channels: each tap of the kernel is a matrix product, x transposed times dy,
// over the voxels that the tap finds inside x.
//
// A task owns a part of dw, a few vectors of input channels times a range of output channels at all taps,
// which stays in the second-level cache while all voxels pass by in chunks. The chunk's dy, and the chunk's x
// as each tap meets it, are packed so that the innermost loop reads memory in order. Where the parts are too
// few to share out, the voxels are divided into slabs with sums of their own, which are added in order at the
// end.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class TapWeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit TapWeightGradient(const Conv3dProblem& problem);

  // True where this is faster than WeightGradient.
  static bool pays(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Part {
    int64_t group, firstInput, inputs, vectors;  // input channels of the group
    int64_t firstOutput, outputs;                // output channels of the group
  };
  struct Chunk {
    int64_t firstRow, rows, firstVoxel, lastVoxel;  // the same voxels of every row
  };
  struct Tap {
    int64_t r, s, t, first, last;  // and the voxels of a chunk's rows that it meets inside x
  };
  struct Panels;

  Part partOf(int64_t index) const;
  Chunk chunkOf(int64_t index) const;
  int64_t parts() const { return problem_.groups * columns_ * ranges_; }
  void clearUnreached(float* dw) const;
  void sumPart(const float* x, const float* dy, const Part& part, int64_t slab, float* sums, float* dw) const;
  void packGradients(const float* dy, const Part& part, const Chunk& chunk, Panels& panels) const;
  bool packWindows(const float* x, const Part& part, const Chunk& chunk, const Tap& tap,
                   Panels& panels) const;
  void storePart(const Part& part, const float* sums, float* dw) const;

  const Conv3dProblem problem_;
  const WeightGradientKernels& kernels_;
  int64_t cPerGroup_, kPerGroup_;
  int64_t vectors_, columns_;      // of one group; a column is up to kMaxWindowVectors vectors
  int64_t ranges_, largestRange_;  // ranges of output channels of one group
  bool direct_;                    // sums are written where dw has them
  int64_t chunksPerRow_, rowsPerChunk_, voxelsPerChunk_, chunks_, slabs_;
  int64_t sumsPerPart_;  // floats
};

}  // namespace voxgrad::cpu
