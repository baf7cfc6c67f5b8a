// Convolutions of many channels on the matrix unit (see amx_kernels.h): the forward pass and the input
// gradient of any kernel, stride and dilation. Every tap is a product of the source voxels that it meets with
// its weights; a strided input gradient falls into phases, as in conv3d_gather.h.
//
// A task takes a block of output voxels through the taps. Its sums and the weights of a tap, for a chunk of
// the reduced channels, stay in the second-level cache, the parts of 32 source voxels in the first. Sixteen
// neighbouring voxels that find a tap in the padding leave it out.
#pragma once

#include <vector>

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class AmxConvolution final : public NormalizingConvolution {
 public:
  AmxConvolution(const Conv3dProblem& problem, bool inputGradient);

  // Whether this process uses the unit, and the channels are of one group and fill it.
  static bool fits(const Conv3dProblem& problem);

  // Whether every voxel of the input gradient meets some tap.
  static bool reachesAll(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t packedFloats() const override;
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override { return 0; }
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  // Output voxels that read the same pattern of taps.
  struct Phase {
    GatherAxis axis[3];
    int64_t voxels, firstBlock;

    int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  };
  struct Block;
  static constexpr int64_t kChunkSteps = 4;  // of the reduced channels, of which a tile is made at a time

  int64_t tapOf(const Phase& phase, int64_t index) const;
  const char* panelOf(const float* packed, int64_t tap, int64_t chunk, int64_t column) const;
  int64_t stepsOf(int64_t chunk) const;
  void runBlock(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                const Phase& phase, int64_t firstVoxel, int64_t firstColumn, int64_t endColumn) const;
  void fill(const float* bias, float* output) const;
  void place(const Phase& phase, int64_t firstVoxel, Block& block) const;
  void placeSums(const Phase& phase, float* output, Block& block) const;
  void findSources(const Phase& phase, int64_t tap, const float* source, Block& block) const;
  void addTap(const SourceNorm* norm, const char* panel, int64_t chunk, const Block& block) const;
  void begin(const Block& block, const float* bias, const float* output) const;
  void store(const Block& block, float* output) const;

  const Conv3dProblem problem_;
  const AmxKernels& kernels_;
  const bool inputGradient_;
  int64_t sourceExtent_[3], outputExtent_[3], kernel_[3];
  int64_t reduced_, produced_, sourceVoxel_, outputVoxel_;  // channels; floats between voxels
  int64_t steps_, chunks_, columns_;                        // of all reduced channels; of the produced ones
  int64_t blockVoxels_, parts_;                             // a block's columns are shared by so many tasks
  std::vector<Phase> phases_;                               // those with taps, unless the result is added to
  bool skips_ = false;                                      // some are left out
  int64_t blocks_;
};

}  // namespace voxgrad::cpu
