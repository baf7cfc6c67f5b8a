// The driver behind Winograd convolution with 1x3x3 kernels: forward pass and input gradient, which is a
// forward pass with flipped, transposed weights.
//
// The tiles are cut into blocks whose transformed source fits the second-level cache beside the products of
// one group of output channels. Where there are fewer blocks than workers, these share out the groups. The
// value of a tile depends neither on its block nor on its group.
#pragma once

#include "conv2d_winograd_tiles.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Tiles of a block whose transformed source lies in the second-level cache.
int64_t winograd2dBlockTiles(const Conv2dTiles& tiles);

class Winograd2d final : public Convolution {
 public:
  // winograd2dFits(problem); `outputs` of a tile along an axis, 2 or 4.
  Winograd2d(const Conv3dProblem& problem, bool inputGradient, int64_t outputs);

  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Room;
  Room divide(void* workspace) const;
  void transform(int64_t block, int64_t first, int64_t tiles, const float* source, const Room& room,
                 float* transformed) const;
  void multiply(int64_t block, int64_t group, const float* transformed, const float* packed, const Room& room,
                float* products, float* output) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t frequencies() const { return tiles_.frequencies(); }
  int64_t blockTilesOf(int64_t block) const { return std::min(blockTiles_, allTiles_ - block * blockTiles_); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return blockTiles_ * sourceStride_ + 16; }
  int64_t productFrequency() const { return blockTiles_ * kWinogradVectors * lanes() + 16; }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t productFloats() const { return kGroupPanels * frequencies() * productFrequency(); }

  static constexpr int64_t kGroupPanels = 2;  // panels of kWinogradVectors of output channels in a group

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const Conv2dTiles tiles_;
  const WinogradKernels& products_;
  const Winograd2dKernels& kernels_;
  int64_t outputChannels_;
  int64_t sourceStride_;      // source channels rounded up to vectors
  int64_t vectors_, groups_;  // of output channels
  int64_t allTiles_, blockTiles_, blocks_, workers_;
  bool shared_;  // workers share the blocks' transformed sources
};

}  // namespace voxgrad::cpu
