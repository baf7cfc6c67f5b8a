// The driver behind the Winograd weight gradient of 3x3x3 kernels slice by slice: the transpose, in the
// weights, of WinogradSlices. Per frequency and tap along the depth it is a matrix product, output gradients
// times the sources that this tap brings to them, over the tiles of all slices; a slice is transformed once
// for all taps.
//
// Few channels: a task transforms the blocks of a slab, one by one, and adds to sums that stay in the
// second-level cache. Many: blocks are transformed for all, some at a time, then a task sums one frequency
// for one tap along the depth; or, where all blocks are few enough for that at once, all of both for some
// channels, which it transforms back while they are cached.
//
// What is cut depends on the problem and the instruction set alone; parts are added in order, so the result
// does not depend on the number of threads.
#pragma once

#include "conv2d_winograd_tiles.h"
#include "conv3d_winograd_blocks.h"
#include "conv3d_winograd_depth.h"
#include "convolution.h"

namespace voxgrad::cpu {

class WinogradSlicesWeightGradient final : public NormalizingWeightGradient {
 public:
  static constexpr int64_t kDepthTaps = 3;

  // winogradSlicesFits(problem); `outputs` of a tile along H and W, 3 or 4.
  WinogradSlicesWeightGradient(const Conv3dProblem& problem, int64_t outputs);

  // Whether tasks share transformed tiles instead of having slabs of their own.
  bool sharesTiles() const;
  // Times that something is added to so many floats of sums.
  int64_t additions() const { return divideUp(blocks_.count(), sharedBlocks_); }
  int64_t sumFloats() const { return sumFloats(problem_.K, sourceStride_); }

  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Room;
  // Sums [depth tap][frequency][output channel][source channel] of `outputs` x `sources` channels.
  struct Sums {
    float* data;
    int64_t firstOutput, outputs, firstSource, sources;
  };
  struct Part {  // of what is to be summed
    int64_t depthTap, firstFrequency, frequencies;
  };
  enum class Cut { slabs, frequencies, channels };
  int64_t sharedTiles() const;
  // Of the channels of tasks that sum everything for them.
  int64_t channelRows() const;
  int64_t channelColumns() const;
  WinogradBlocks blocks() const;
  Room divide(void* workspace) const;
  WinogradBlock blockOf(int64_t index) const;
  float* sourcesOf(int64_t block, const Room& room) const;
  float* gradientsOf(int64_t block, const Room& room) const;
  void transform(const WinogradBlock& block, int64_t slice, const ConvolutionSource& x, const float* dy,
                 const Room& room, float* sources, float* gradients) const;
  void transformShared(int64_t first, int64_t blocks, const ConvolutionSource& x, const float* dy,
                       const Room& room) const;
  void sum(const WinogradBlock& block, const float* sources, const float* gradients, const Part& part,
           bool add, const Sums& sums) const;
  void sumSlab(int64_t slab, const ConvolutionSource& x, const float* dy, const Room& room,
               float* transformed) const;
  void sumFrequencies(const ConvolutionSource& x, const float* dy, const Room& room) const;
  void sumChannels(const ConvolutionSource& x, const float* dy, const Room& room, float* dw) const;
  void transformBack(int64_t k, const Sums& sums, float* dw) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t frequencies() const { return tiles_.frequencies(); }
  int64_t blockSources() const {
    return (blocks_.blockSlices + kDepthTaps - 1) * blocks_.blockTiles * sourceStride_;
  }
  int64_t blockGradients() const { return blocks_.blockSlices * blocks_.blockTiles * gradientStride_; }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const { return sharedBlocks_ * blockSources() + 16; }
  int64_t gradientFrequency() const { return sharedBlocks_ * blockGradients() + 16; }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t transformedFloats() const { return sourceFloats() + frequencies() * gradientFrequency(); }
  int64_t sumFrequency(const Sums& sums) const { return sums.outputs * sums.sources + 16; }
  int64_t sumFloats(int64_t outputs, int64_t sources) const {
    return kDepthTaps * frequencies() * (outputs * sources + 16);
  }
  Sums all(float* data) const { return {data, 0, problem_.K, 0, sourceStride_}; }

  const Conv3dProblem problem_;
  const Conv2dTiles tiles_;
  const WinogradDepth depth_;
  const WinogradKernels& products_;
  const int64_t sourceStride_, gradientStride_;  // channels rounded up to vectors
  const WinogradBlocks blocks_;
  Cut cut_;
  int64_t sharedBlocks_;  // that are transformed at a time
  int64_t slabs_, workers_;
};

}  // namespace voxgrad::cpu
