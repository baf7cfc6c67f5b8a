// The driver behind the Winograd weight gradient: the transpose, in the weights, of the Winograd forward
// pass.
//
// A task sums the products of one plane over one slab of tiles. Slabs depend on the problem and the
// instruction set alone and are added in order, so the result does not depend on the number of threads.
#pragma once

#include "conv3d_winograd_tiles.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class WinogradWeightGradient final : public ConvolutionWeightGradient {
 public:
  // winogradFits(problem).
  explicit WinogradWeightGradient(const Conv3dProblem& problem);

  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Room;
  Room divide(void* workspace) const;
  void transformGradient(int64_t plane, int64_t firstTile, int64_t tiles, const float* dy,
                         const float* zeroRow, float* transformed) const;
  void sumSlab(int64_t slab, int64_t plane, const float* x, const float* dy, const Room& room,
               float* scratch) const;

  int64_t lanes() const { return kernels_.lanes; }
  // One line apart from a power of two: the frequencies of a tile or a filter must not share a cache set.
  int64_t frequencyFloats() const { return problem_.K * sourceStride_ + 16; }
  int64_t slabFloats() const { return kPlanes * kPlaneFrequencies * frequencyFloats(); }
  int64_t sourceFrequency() const { return blockTiles_ * sourceStride_ + 16; }
  int64_t gradientFrequency() const { return blockTiles_ * gradientStride_ + 16; }
  int64_t scratchFloats() const { return kPlaneFrequencies * (sourceFrequency() + gradientFrequency()); }

  const Conv3dProblem problem_;
  const WinogradKernels& kernels_;
  WinogradTiles tiles_;
  int64_t sourceStride_, gradientStride_;  // channels rounded up to vectors
  int64_t allTiles_, blockTiles_, slabs_, workers_;
};

}  // namespace voxgrad::cpu
