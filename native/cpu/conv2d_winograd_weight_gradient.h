// The driver behind the Winograd weight gradient of 1x3x3 kernels: the transpose, in the weights, of the
// Winograd forward pass. Per frequency it is a matrix product, output gradients times sources, over tiles.
//
// What is cut depends on where the sums fit, and on the problem and the instruction set alone; parts are
// added in order, so the result does not depend on the number of threads.
#pragma once

#include "conv2d_winograd_tiles.h"
#include "convolution.h"

namespace voxgrad::cpu {

class Winograd2dWeightGradient final : public NormalizingWeightGradient {
 public:
  // winograd2dFits(problem); `outputs` of a tile along an axis, 2, 3 or 4.
  Winograd2dWeightGradient(const Conv3dProblem& problem, int64_t outputs);
  // Only what the outputs in `tiles` make of it.
  Winograd2dWeightGradient(const Conv3dProblem& problem, const Conv2dTiles& tiles);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override {
    run(x, dy, false, dw, workspace);
  }
  // Adds to the taps of dw that the tiles meet, or overwrites them.
  void run(const ConvolutionSource& x, const float* dy, bool add, float* dw, void* workspace) const;

 private:
  // Few channels: a task transforms the tiles of a slab, block by block, and sums all frequencies. Many
  // channels, or tiles for one slab only: the tiles of a block are transformed once for all, then a task sums
  // one frequency, of some output channels where frequencies are few, or, where tiles are few, all
  // frequencies of some output channels, which it transforms back while they are cached.
  enum class Cut { slabs, frequencies, channels };

  struct Room;
  struct Part {  // of what is to be summed
    const float *sources, *gradients;
    int64_t tiles, firstFrequency, frequencies, channels;
  };
  Room divide(void* workspace) const;
  void transformSource(int64_t firstTile, int64_t tiles, const ConvolutionSource& x, const Room& room,
                       float* sources) const;
  void transformGradient(int64_t firstTile, int64_t tiles, const float* dy, int64_t channels,
                         const Room& room, float* gradients) const;
  void sumSlab(int64_t slab, const ConvolutionSource& x, const float* dy, const Room& room,
               float* transformed) const;
  void sumBlock(int64_t firstTile, const ConvolutionSource& x, const float* dy, const Room& room) const;
  void sumChannels(const ConvolutionSource& x, const float* dy, bool add, const Room& room, float* dw) const;
  void sum(const Part& part, bool add, float* sums) const;
  void transformBack(const float* sums, int64_t k, bool add, float* dw) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t panel() const { return kWinogradVectors * lanes(); }
  int64_t frequencies() const { return tiles_.frequencies(); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return sourcePanels_ * blockTiles_ * panel() + 16; }
  int64_t gradientFrequency() const {
    return (cut_ == Cut::channels ? taskChannels_ : gradientPanels_ * panel()) * blockTiles_ + 16;
  }
  int64_t sumFrequency() const { return taskChannels_ * sumStride_ + 16; }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t gradientFloats() const { return frequencies() * gradientFrequency(); }
  int64_t transformedFloats() const { return sourceFloats() + gradientFloats(); }
  int64_t sumFloats() const { return frequencies() * sumFrequency(); }

  const Conv3dProblem problem_;
  const Conv2dTiles tiles_;
  const WinogradKernels& products_;
  int64_t sourcePanels_, gradientPanels_;  // of kWinogradVectors, of channels of transformed tiles
  int64_t sumStride_;                      // source channels rounded up to vectors
  int64_t allTiles_, blockTiles_, slabs_, workers_;
  int64_t taskChannels_;  // output channels of a task, whole panels of them
  Cut cut_;
};

}  // namespace voxgrad::cpu
