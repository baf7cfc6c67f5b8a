// The driver behind Winograd convolution of 3x3x3 kernels slice by slice, F(1x4x4, 3x3x3) or, where it leaves
// fewer tiles at the edge partial, F(1x3x3, 3x3x3), dilated ones too: forward pass and input gradient, which
// is a forward pass with flipped, transposed weights.
//
// An output slice is the sum of three 2-D convolutions, one per tap along the depth, each of another source
// slice. They are added before the tiles are transformed back: to the products that is one 2-D convolution of
// three times the channels, and a source slice is transformed once for the three outputs that read it. To an
// output of the larger tiles that makes 3 * 36 / 16 multiplications where F(2x2x2, 3x3x3) needs 8, and
// transforms of 36 values to 16 outputs where that has 64 to 8.
//
// A task transforms the tiles of a run of source slices of a map along the depth (conv3d_winograd_depth.h),
// as many as stay in the second-level cache, and then computes the output slices among them some at a time.
// The value of a tile does not depend on its task.
//
// Where tiles are few and channels many, transformed filters, four times the weights, would be the larger
// part by far. Then all tiles are transformed first, and a task multiplies them by some output channels,
// whose filters it transforms in the second-level cache.
#pragma once

#include "conv2d_winograd_filters.h"
#include "conv2d_winograd_tiles.h"
#include "conv3d_winograd_blocks.h"
#include "conv3d_winograd_depth.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Kernel 3x3x3, stride and groups 1; any padding and dilation.
bool winogradSlicesFits(const Conv3dProblem& problem);

class WinogradSlices final : public SummingConvolution {
 public:
  static constexpr int64_t kDepthTaps = 3;
  // Source channels of filters that are transformed at a time.
  static constexpr int64_t kFilterDepth = 32;

  // winogradSlicesFits(problem); `outputs` of a tile along H and W, 3 or 4.
  WinogradSlices(const Conv3dProblem& problem, bool inputGradient, int64_t outputs, bool packedOnce);

  // Whether tasks transform the filters, after all tiles.
  bool filtersLast() const { return filtersLast_; }

  size_t packedFloats() const override { return filtersLast_ ? filters_.allTaps() : filters_.packedFloats(); }
  void pack(const float* w, float* packed) const override {
    filtersLast_ ? filters_.packAllTaps(w, packed) : filters_.pack(w, packed);
  }
  size_t workspace() const override;
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace, float* moments) const override;

 private:
  struct Room;
  struct Filters {  // of `depth` reduced channels from `first` on
    const float* data;
    int64_t frequencyStride, first, depth;
  };
  bool transformsFiltersLast() const;
  WinogradBlocks tasks() const;
  Room divide(void* workspace) const;
  WinogradBlock taskOf(int64_t index) const;
  void transform(const WinogradBlock& task, int64_t place, const ConvolutionSource& source, const Room& room,
                 float* transformed) const;
  void multiply(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector,
                const float* transformed, const Filters& filters, float* products) const;
  void store(const WinogradBlock& task, int64_t first, int64_t slices, int64_t vector, const float* products,
             const Room& room, float* output, ChannelSums* sums) const;
  void runTasks(const ConvolutionSource& source, const float* filters, const Room& room, float* output,
                bool sums) const;
  void runPanels(const ConvolutionSource& source, const float* taps, const Room& room, float* output,
                 bool sums) const;
  void multiplyPanel(int64_t vector, const float* taps, const Room& room, float* filters,
                     float* products) const;

  bool streams(const float* output) const;

  int64_t lanes() const { return products_.lanes; }
  int64_t frequencies() const { return tiles_.frequencies(); }
  // One line apart from a power of two: the frequencies of a tile must not share a cache set.
  int64_t sourceFrequency() const {
    return (tasks_.blockSlices + kDepthTaps - 1) * tasks_.blockTiles * sourceStride_ + 16;
  }
  int64_t productFrequency() const {
    return stepSlices_ * tasks_.blockTiles * kWinogradVectors * lanes() + 16;
  }
  int64_t sourceFloats() const { return frequencies() * sourceFrequency(); }
  int64_t productFloats() const { return frequencies() * productFrequency(); }
  int64_t filterFrequency() const { return kDepthTaps * kFilterDepth * kWinogradVectors * lanes() + 16; }
  int64_t scratchFloats() const {
    return filtersLast_ ? tasks_.count() * productFloats() + frequencies() * filterFrequency()
                        : sourceFloats() + productFloats();
  }
  int64_t panelVectors(int64_t vector) const {
    return std::min<int64_t>(kWinogradVectors, vectors_ - vector);
  }

  const Conv3dProblem problem_;
  const Conv2dTiles tiles_;
  const Winograd2dFilters filters_;
  const WinogradKernels& products_;
  const WinogradDepth depth_;
  const int64_t outputChannels_;
  const int64_t sourceStride_;  // source channels rounded up to vectors
  const int64_t vectors_;       // of output channels
  const bool filtersLast_;
  const WinogradBlocks tasks_;
  int64_t stepSlices_;  // that are multiplied together
  int64_t workers_;
};

}  // namespace voxgrad::cpu
