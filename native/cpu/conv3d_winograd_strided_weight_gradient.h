// The driver behind the Winograd weight gradient with stride 2 along H and W: the transpose, in the weights,
// of the forward pass in conv3d_winograd_strided.h. Per frequency and tap along the depth it is a matrix
// product, output gradients times the phases of the source, over tiles.
//
// What is cut depends on where the sums fit, and on the problem and the instruction set alone; parts are
// added in order, so the result does not depend on the number of threads.
#pragma once

#include "conv3d_winograd_blocks.h"
#include "conv3d_winograd_strided_depth.h"
#include "conv3d_winograd_strided_tiles.h"
#include "convolution.h"

namespace voxgrad::cpu {

class WinogradStridedWeightGradient final : public ConvolutionWeightGradient {
 public:
  // winogradStridedFits(problem).
  explicit WinogradStridedWeightGradient(const Conv3dProblem& problem);

  // True where the sums of a slab stay in the second-level cache.
  static bool cachesSums(const Conv3dProblem& problem);

  size_t workspace() const override;
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Room;
  Room divide(void* workspace) const;
  WinogradBlocks blocks() const;
  void runSlabs(const float* x, const float* dy, const Room& room) const;
  void runFrequencies(const float* x, const float* dy, const Room& room) const;
  void transformSource(const WinogradBlock& block, int64_t i, int64_t first, int64_t tiles, const float* x,
                       const Room& room, float* transformed) const;
  void transformGradient(const WinogradBlock& block, int64_t i, int64_t first, int64_t tiles, const float* dy,
                         const Room& room, float* transformed) const;
  void sum(const WinogradBlock& block, const WinogradFrequencies& frequencies, int64_t depthTap,
           const float* transformed, bool add, float* sums) const;
  void transformBack(int64_t k, const Room& room, float* dw) const;

  static constexpr int64_t kFrequencies = WinogradStridedTiles::kFrequencies;
  int64_t lanes() const { return products_.lanes; }
  int64_t slotFloats() const { return blocks_.blockTiles * tiles_.tileFloats(); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceChunk() const { return depth_.span(blocks_.blockSlices) * slotFloats(); }
  int64_t sourceFrequency() const { return tiles_.chunks() * sourceChunk() + 16; }
  int64_t gradientFrequency() const {
    return blocks_.blockSlices * blocks_.blockTiles * gradientStride_ + 16;
  }
  int64_t sourceFloats() const { return kFrequencies * sourceFrequency(); }
  int64_t transformedFloats() const { return sourceFloats() + kFrequencies * gradientFrequency(); }
  // Sums [frequency][tap along the depth][chunk][output channel][phase][channel].
  int64_t sumChunk() const { return problem_.K * tiles_.tileFloats(); }
  int64_t sumFrequency() const { return problem_.R * tiles_.chunks() * sumChunk() + 16; }
  int64_t sumFloats() const { return kFrequencies * sumFrequency(); }

  const Conv3dProblem problem_;
  const WinogradStridedTiles tiles_;
  const WinogradStridedDepth depth_;
  const WinogradKernels& products_;
  const Winograd2dTable& table_;
  const int64_t gradientStride_;  // output channels rounded up to vectors
  // Few channels: a task transforms the tiles of a slab, block by block, and sums all frequencies. Many: the
  // tiles of a block are transformed once for all, then a task sums one frequency and one tap along the
  // depth.
  const bool inSlabs_;
  const WinogradBlocks blocks_;
  int64_t slabs_, workers_;
};

}  // namespace voxgrad::cpu
