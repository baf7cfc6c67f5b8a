// The driver behind the Winograd weight gradient of 3x3x3 kernels slice by slice: the transpose, in the
// weights, of WinogradSlices. Per frequency and tap along the depth it is a matrix product, output gradients
// times the sources that this tap brings to them, over the tiles of all slices; a slice is transformed once
// for all taps.
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

  // Each block adds to so many floats of sums, and whether they stay in the second-level cache.
  int64_t blocks() const { return blocks_.count(); }
  int64_t sumFloats() const { return kDepthTaps * tapFloats(); }
  bool cachesSums() const;

  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  struct Room;
  WinogradBlocks cut() const;
  Room divide(void* workspace) const;
  WinogradBlock blockOf(int64_t index) const;
  void transform(const WinogradBlock& block, int64_t slice, const ConvolutionSource& x, const float* dy,
                 const Room& room, float* transformed) const;
  void sum(const WinogradBlock& block, const float* transformed, int64_t depthTap, bool add,
           float* sums) const;
  void transformBack(int64_t k, const Room& room, float* dw) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t frequencies() const { return tiles_.frequencies(); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const {
    return (blocks_.blockSlices + kDepthTaps - 1) * blocks_.blockTiles * sourceStride_ + 16;
  }
  int64_t gradientFrequency() const {
    return blocks_.blockSlices * blocks_.blockTiles * gradientStride_ + 16;
  }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t transformedFloats() const { return sourceFloats() + frequencies() * gradientFrequency(); }
  int64_t sumFrequency() const { return problem_.K * sourceStride_ + 16; }
  int64_t tapFloats() const { return frequencies() * sumFrequency(); }

  const Conv3dProblem problem_;
  const Conv2dTiles tiles_;
  const WinogradDepth depth_;
  const WinogradKernels& products_;
  const int64_t sourceStride_, gradientStride_;  // channels rounded up to vectors
  const WinogradBlocks blocks_;
  int64_t slabs_, workers_;
};

}  // namespace voxgrad::cpu
