// The driver behind Winograd convolution with stride 2 along H and W, of 1x3x3 and 3x3x3 kernels: forward
// pass and input gradient, its transpose. To 16 outputs it makes 81 multiplications instead of 144; the taps
// along the depth are added before the tiles are transformed back, as in conv3d_winograd_slices.h.
//
// A task transforms the tiles of a run of source slices, as many as stay in the second-level cache or fewer
// so that every thread has some, and then computes the output slices among them, for some output channels at
// a time. Where tiles are fewer than output channels the transformed filters would be the larger part by far:
// then a task transforms them as well, in the same cache, and where blocks of tiles are fewer than threads,
// they are transformed for all first, and a task is a block and some output channels. The value of a tile
// does not depend on its block.
#pragma once

#include "conv2d_winograd_filters.h"
#include "conv3d_winograd_blocks.h"
#include "conv3d_winograd_strided_depth.h"
#include "conv3d_winograd_strided_tiles.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Kernel 1x3x3 or 3x3x3, stride 2 along H and W, 1 or 2 along D, no groups, no dilation; any padding.
bool winogradStridedFits(const Conv3dProblem& problem);

class WinogradStrided final : public Convolution {
 public:
  // winogradStridedFits(problem).
  WinogradStrided(const Conv3dProblem& problem, bool inputGradient);

  // Tiles of all output slices, and whether they are too few to transform the filters beforehand.
  static int64_t rows(const Conv3dProblem& problem);
  static bool filtersLast(const Conv3dProblem& problem);

  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  // Of the filters: output phase, panel of output channels, tap along the depth, and chunk of source
  // channels.
  struct Unit {
    int64_t phase, panel, depthTap, chunk;
  };
  struct Room;
  Room divide(void* workspace) const;
  WinogradBlocks blocks(int64_t workers) const;
  void transform(const WinogradBlock& block, int64_t slice, const float* source, const Room& room,
                 float* transformed) const;
  void multiply(const WinogradBlock& block, int64_t phase, int64_t panel, const float* transformed,
                const float* packed, const Room& room, float* products, float* output) const;
  void add(const Unit& unit, const float* tiles, const float* filters, bool add, int64_t rows,
           float* products) const;
  void store(const WinogradBlock& block, const GatherAxis& axis, int64_t phase, int64_t panel,
             const float* products, const Room& room, float* output) const;
  void packTaps(const float* w, const Unit& unit, int64_t vector, float* taps) const;
  void transformFilters(const Unit& unit, const float* taps, int64_t vectorFloats, float* filters) const;

  int64_t lanes() const { return products_.lanes; }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return tiles_.chunks() * sourceChunk() + 16; }
  int64_t sourceChunk() const {
    return depth_.span(blocks_.blockSlices) * blocks_.blockTiles * tiles_.tileFloats();
  }
  int64_t productFrequency() const {
    return blocks_.blockSlices * blocks_.blockTiles * kWinogradVectors * lanes() + 16;
  }
  int64_t filterFrequency() const { return tiles_.sourcePhases() * chunk_ * kWinogradVectors * lanes() + 16; }
  int64_t sourceFloats() const { return WinogradStridedTiles::kFrequencies * sourceFrequency(); }
  int64_t productFloats() const { return WinogradStridedTiles::kFrequencies * productFrequency(); }
  int64_t filterFloats() const { return WinogradStridedTiles::kFrequencies * filterFrequency(); }
  int64_t scratchFloats() const {
    return productFloats() + (filtersLast_ ? filterFloats() : 0) + (shared_ ? 0 : sourceFloats());
  }
  int64_t tasksOfBlock() const { return tiles_.outputPhases() * panels_; }
  // Taps of a vector of output channels: [tap along the depth][source channel][9][lanes].
  int64_t tapFloats() const {
    return problem_.R * tiles_.sourceChannels * Winograd2dTaps::kSliceTaps * lanes();
  }
  int64_t numberOf(const Unit& unit) const {
    return ((unit.phase * panels_ + unit.panel) * problem_.R + unit.depthTap) * chunks() + unit.chunk;
  }
  template <typename Float>
  Float* tapsOf(const Unit& unit, int64_t vector, Float* packed) const {
    const int64_t first = unit.depthTap * tiles_.sourceChannels + unit.chunk * chunk_;
    return packed + vector * tapFloats() + first * Winograd2dTaps::kSliceTaps * lanes();
  }
  int64_t chunks() const { return divideUp(tiles_.sourceChannels, chunk_); }
  int64_t chunkChannels(int64_t chunk) const {
    return std::min(chunk_, tiles_.sourceChannels - chunk * chunk_);
  }
  int64_t panelVectors(int64_t panel) const {
    return std::min<int64_t>(kWinogradVectors, vectors_ - panel * kWinogradVectors);
  }

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const WinogradStridedTiles tiles_;
  const Winograd2dTaps taps_;
  const WinogradKernels& products_;
  const Winograd2dTable& table_;
  const WinogradStridedDepth depth_;
  const int64_t outputChannels_;
  const int64_t vectors_, panels_;  // of output channels; kWinogradVectors make a panel
  const int64_t chunk_;             // source channels of a unit
  const bool filtersLast_;          // filters are transformed by the tasks that multiply
  const WinogradBlocks blocks_;
  bool shared_;  // blocks are fewer than workers: all are transformed before any is multiplied
  int64_t workers_;
};

}  // namespace voxgrad::cpu
