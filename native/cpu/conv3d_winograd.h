// The driver behind Winograd convolution with 3x3x3 kernels: forward pass and input gradient, which is a
// forward pass with flipped, transposed weights.
//
// The tiles are cut into blocks. A block is transformed and multiplied plane by plane, so that what it keeps
// between two steps stays in the second-level cache. The value of a tile does not depend on its block.
#pragma once

#include "conv3d_winograd_tiles.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

// Kernel 3x3x3, stride, dilation and groups 1; any padding and extents.
bool winogradFits(const Conv3dProblem& problem);

class Winograd final : public Convolution {
 public:
  // `problem` must fit.
  Winograd(const Conv3dProblem& problem, bool inputGradient);

  size_t packedFloats() const override { return static_cast<size_t>(kPlanes * filterPlaneFloats()); }
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Room;
  Room divide(void* workspace) const;
  void transformFilters(const float* w, int64_t vector, int64_t first, WinogradFilter filter) const;
  void runBlock(int64_t firstTile, int64_t tiles, int64_t firstVector, int64_t lastVector,
                const float* source, const float* filters, const Room& room, float* scratch,
                float* output) const;

  int64_t lanes() const { return kernels_.lanes; }
  int64_t filterPlaneFloats() const { return vectors_ * kPlaneFrequencies * tiles_.sourceChannels * lanes(); }
  // Source channels whose filters are transformed at a time.
  static constexpr int64_t kFilterChunk = 16;
  // One line apart from a power of two: the 16 frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return blockTiles_ * sourceStride_ + 16; }
  int64_t productFrequency() const { return blockTiles_ * kWinogradVectors * lanes() + 16; }
  int64_t scratchFloats() const { return kPlaneFrequencies * (sourceFrequency() + productFrequency()); }

  const Conv3dProblem problem_;
  const WinogradKernels& kernels_;
  const bool inputGradient_;
  WinogradTiles tiles_;
  int64_t outputChannels_;
  int64_t sourceStride_;    // source channels rounded up to vectors
  int64_t vectors_;         // of output channels
  int64_t panels_, parts_;  // of kWinogradVectors, and what tasks divide them into
  int64_t allTiles_, blockTiles_, blocks_, workers_;
};

}  // namespace voxgrad::cpu
