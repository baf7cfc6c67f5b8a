// The driver behind the weight gradient: products of source windows with output-gradient channels, summed
// over all voxels. A window is the run of source floats that one row of taps meets at a voxel; the windows of
// all taps are cut into vectors, and a tile is a few vectors times a few output channels.
//
// The rows of voxels are divided into slabs, each with sums of its own, added in order at the end. Slabs
// depend on the problem alone, so the result does not depend on the number of threads.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class WeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit WeightGradient(const Conv3dProblem& problem);

  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  // A window piece: up to pieceFloats_ floats of the run that starts at voxel offset `offset` for row tap
  // (r, s), `within` floats into it. `weight` is the place of its first float inside one filter.
  struct Piece {
    int64_t r, s, offset, within, weight, length;
  };
  Piece piece(int64_t index) const;

  int64_t rowFloats() const { return (padLeft_ + problem_.W + padRight_) * problem_.C; }
  int64_t tileFloats() const { return channelBlock_ * kMaxWindowVectors * kernels_.lanes; }
  int64_t sumsPerSlab() const { return columns_ * channelBlocks_ * tileFloats(); }
  int64_t vectorsOf(int64_t column) const;

  void padRows(const float* x, float* padded) const;
  void sumSlab(const float* x, const float* zeroRow, const float* dy, int64_t slab, int64_t column,
               float* sums) const;
  void reduceColumn(int64_t column, const float* sums, float* dw) const;

  const Conv3dProblem problem_;
  const WeightGradientKernels& kernels_;
  int64_t cPerGroup_, kPerGroup_;
  bool oneRun_;                                  // the taps along W read one run of floats
  int64_t run_;                                  // floats in a window run
  int piecesPerVector_;                          // 2: halves of a vector come from different places
  int64_t pieceFloats_, piecesPerRun_, pieces_;  // pieces_ of one group
  int64_t vectors_;                              // of one group
  int64_t columnsPerGroup_, columns_;            // a column is up to kMaxWindowVectors vectors
  int64_t channelBlock_, channelBlocks_;         // output channels per tile, tiles per column
  bool copies_;
  int64_t padLeft_, padRight_;  // voxels
  int64_t rows_, slabs_, rowsPerChunk_;
};

}  // namespace voxgrad::cpu
