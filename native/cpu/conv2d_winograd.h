// The driver behind Winograd convolution with 1x3x3 kernels: forward pass and input gradient, which is a
// forward pass with flipped, transposed weights.
//
// The tiles are cut into blocks. Where there are many, a task transforms the source of one and multiplies it
// by filters that were transformed once. Where tiles are fewer than output channels, the transformed filters
// would be the larger part by far (four times the weights): then all tiles are transformed first, and a task
// multiplies those of a block by some output channels, whose filters it transforms in the second-level cache.
// The value of a tile does not depend on its block.
#pragma once

#include "conv2d_winograd_filters.h"
#include "conv2d_winograd_tiles.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Whether tasks transform the filters, after all tiles, and how many tiles a block has at most.
bool winograd2dFiltersLast(const Conv2dTiles& tiles, int64_t outputChannels);
int64_t winograd2dBlockTiles(const Conv2dTiles& tiles, bool filtersLast);

class Winograd2d final : public NormalizingConvolution {
 public:
  // winograd2dFits(problem); `outputs` of a tile along an axis, 2, 3 or 4.
  Winograd2d(const Conv3dProblem& problem, bool inputGradient, int64_t outputs);
  // Only of the outputs in `tiles`. The weights that tasks transform are packed alike for all tiles.
  Winograd2d(const Conv3dProblem& problem, bool inputGradient, const Conv2dTiles& tiles, bool filtersLast);

  bool places() const override { return true; }
  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Room;
  Room divide(void* workspace) const;
  void transform(int64_t block, int64_t first, int64_t tiles, const ConvolutionSource& source,
                 const Room& room, float* transformed) const;
  void multiply(int64_t block, const float* transformed, const float* filters, const Room& room,
                float* products, float* output) const;
  void multiplyPanel(int64_t block, int64_t panel, const float* transformed, const float* taps,
                     const Room& room, float* scratch, float* output) const;
  void store(int64_t block, int64_t vector, const float* products, const Room& room, float* output) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t frequencies() const { return tiles_.frequencies(); }
  int64_t blockTilesOf(int64_t block) const { return std::min(blockTiles_, allTiles_ - block * blockTiles_); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return blockTiles_ * sourceStride_ + 16; }
  int64_t productFrequency() const { return blockTiles_ * kWinogradVectors * lanes() + 16; }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t productFloats() const { return frequencies() * productFrequency(); }
  int64_t scratchFloats() const;
  int64_t panelVectors(int64_t vector) const {
    return std::min<int64_t>(kWinogradVectors, vectors_ - vector);
  }

  const Conv3dProblem problem_;
  const Conv2dTiles tiles_;
  const Winograd2dFilters filters_;
  const WinogradKernels& products_;
  // Whether filters are transformed by the tasks that multiply, after all tiles.
  const bool filtersLast_;
  int64_t outputChannels_;
  int64_t sourceStride_;      // source channels rounded up to vectors
  int64_t vectors_, panels_;  // of output channels; kWinogradVectors make a panel
  int64_t allTiles_, blockTiles_, blocks_, workers_;
};

}  // namespace voxgrad::cpu
