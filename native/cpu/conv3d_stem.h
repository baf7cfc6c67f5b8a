// Stems: convolutions of so few input channels that a copy of the input with zeros around it costs next to
// nothing and spares every kernel its bounds checks.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

// The zero-padded copy of x: as far as the receptive fields of y reach.
struct PaddedSource {
  explicit PaddedSource(const Conv3dProblem& problem);

  int64_t floats() const { return N * sample(); }
  int64_t sample() const { return padded[0] * padded[1] * row(); }
  int64_t row() const { return padded[2] * C; }
  // Floats between the origins of the receptive fields of neighbours along an axis of y.
  int64_t step(int axis) const { return stride[axis] * tapStep(axis) / dilation[axis]; }
  // Floats between neighbouring taps along an axis.
  int64_t tapStep(int axis) const {
    return dilation[axis] * (axis == 2 ? C : axis == 1 ? row() : padded[1] * row());
  }
  void fill(const float* x, float* to) const;
  // Some rows of one plane, both counted with the padding, one after another.
  void fillRows(const float* x, int64_t n, int64_t plane, int64_t first, int64_t rows, float* to) const;

  int64_t N, C, extent[3], padded[3], pad[3], stride[3], dilation[3];
};

bool isStem(const Conv3dProblem& problem);

// dw of a stem. Lanes are channels of dy, and every float of the source window is broadcast. The lines of
// voxels are divided into slabs, each with sums of its own, added in order at the end; slabs depend on the
// problem alone, so the result does not depend on the number of threads.
class StemWeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit StemWeightGradient(const Conv3dProblem& problem);

  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  int64_t slabSums() const { return vectors_ * rowTaps_ * run_ * kernels_.lanes; }
  // Those that a kernel takes at once, at most.
  int64_t columnChannels() const { return int64_t{kernels_.vectors} * kernels_.lanes; }
  void sumLines(const float* padded, const float* dy, int64_t blockOfLines, float* sums) const;
  void sumColumn(StemProduct& product, const float* origin, int64_t channels, float* sums) const;
  void reduceRow(const float* sums, int64_t vector, int64_t rowTap, float* dw) const;

  const Conv3dProblem problem_;
  const PaddedSource source_;
  const StemKernels& kernels_;
  const int64_t run_, rowTaps_, vectors_;  // floats in the run of a row of taps, such rows, vectors of dy
  int64_t lines_, blocksPerPlane_;         // a block is up to lines_ lines of a plane of y
  int64_t slabs_;
};

}  // namespace voxgrad::cpu
