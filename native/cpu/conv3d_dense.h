// Convolutions whose taps need no bounds checks, as matrix products: kernels as wide as their stride without
// padding (the 2x2x2 up- and down-sampling of V-Net), and pointwise kernels of any stride.
#pragma once

#include "conv3d_stem.h"
#include "convolution.h"

namespace voxgrad::cpu {

// True when no two output voxels read the same voxel of x and none reads padding.
bool isBlockwise(const Conv3dProblem& problem);

// True for a kernel of one tap that reads every voxel of x once.
bool isPointwise(const Conv3dProblem& problem);

// The same convolution with all voxels in one row where it is pointwise with stride 1, else the problem
// itself.
Conv3dProblem joinVoxels(Conv3dProblem problem);

// The coefficients of a voxel's `channels`, again for every voxel of a run of `floats`, zeros up to `padded`:
// in 3 * padded floats at `to`.
SourceNorm spreadNorm(const SourceNorm& norm, int64_t channels, int64_t floats, int64_t padded, float* to);

// Weights of a forward pass: [columns][taps][C][vectors of the column][lanes], zeros behind the last channel.
void packColumns(const Conv3dProblem& problem, const float* w, float* packed);

// Those of an input gradient: [runs of a voxel][columns][K][vectors of the column][lanes].
void packGradientColumns(const Conv3dProblem& problem, const float* w, float* packed);

// The forward pass or the input gradient of a blockwise problem.
class Dense final : public NormalizingConvolution {
 public:
  Dense(const Conv3dProblem& problem, bool inputGradient);

  // Weights as run() wants them: they change once per optimizer step.
  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;

  bool normalizes() const override;
  size_t workspace() const override;
  // bias [channels of output] may be null.
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Gap {
    float* at;
    int64_t floats;
  };
  struct Blocks;

  int64_t paddedSteps() const { return divideUp(steps_, kernels_.lanes) * kernels_.lanes; }
  void normalize(const SourceNorm& norm, DensePlace* places, int64_t groups) const;
  bool streams(const float* output) const;
  DensePlace placeRow(int64_t row, const float* source, float* output) const;
  int64_t gaps(int64_t row) const;
  Gap gap(int64_t row, int64_t index, float* output) const;
  void fillRow(int64_t row, const float* bias, float* output) const;
  void runBlock(const ConvolutionSource& from, const float* packed, const float* bias, float* output,
                const Blocks& blocks, int64_t block, int64_t firstColumn, int64_t endColumn) const;
  Blocks cut() const;

  Conv3dProblem problem_;  // voxels of pointwise problems are joined to one row
  const PaddedSource x_;
  const DenseKernels& kernels_;
  const bool inputGradient_;
  int64_t rows_, voxels_;  // rows of y, and voxels in each
  int64_t sourceStride_, outputStride_;
  int64_t segments_, steps_;        // runs of the source that a voxel meets, and floats in each
  int64_t outputs_, outputFloats_;  // runs of the output that a voxel yields, and floats in each
  int64_t vectors_, columns_;       // of one run of the output; a column is up to kMaxDenseVectors vectors
  bool inLines_;                    // the voxels of a tile are neighbours, one source float apart
  bool covers_;                     // every voxel of the output belongs to some run
};

}  // namespace voxgrad::cpu
