// The forward pass of stems by Winograd convolution along W alone (see winograd_row_kernels.h). The few
// channels of their source leave nothing to sum over where other forms of Winograd do that, so that
// transforms of more axes would cost more than they save; here rows of taps are summed, before the one
// transform back.
//
// A block of rows of y transforms the rows of x that it reads; planes and rows of taps in the padding are
// left out. A value does not depend on its block.
#pragma once

#include "conv3d_stem_blocks.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class WinogradRows final : public SummingConvolution {
 public:
  // Few source channels, no dilation; three taps along W, or five to seven with stride 1 or 2.
  static bool fits(const Conv3dProblem& problem);
  // In multiply-adds of one vector register.
  static double cost(const Conv3dProblem& problem);

  explicit WinogradRows(const Conv3dProblem& problem);

  // What a stem reads is not normalised.
  bool normalizes() const override { return false; }
  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace, float* moments) const override;

 private:
  struct Room;

  // How rows of taps and of x are cut.
  struct Cut {
    explicit Cut(const Conv3dProblem& problem);
    int64_t parts, phases;  // of a row of taps; maps of every `phases`-th voxel
    int64_t products;       // of a tile
    int64_t tiles;          // of a map, as many as are read
    int64_t map;            // floats
  };

  Room divide(void* workspace) const;
  int64_t lineFloats() const { return kRowOutputs * (cut_.tiles + 1); }
  int64_t rowFloats() const { return problem_.C * cut_.phases * cut_.map; }
  int64_t rowWeights() const { return problem_.C * cut_.products * kernels_.lanes; }
  void transformRow(const float* x, float* line, float* transformed) const;
  void transformBlock(const StemBlock& block, const float* x, float* line, float* window) const;
  void multiplyBlock(const StemBlock& block, int64_t index, const Room& room, const float* window,
                     const float* packed, float* y, bool sums) const;

  const Conv3dProblem problem_;
  const WinogradRowKernels& kernels_;
  const Cut cut_;
  const int64_t vectors_;  // of a voxel of y
  const StemBlocks blocks_;
  int64_t workers_;
};

}  // namespace voxgrad::cpu
