// The driver behind the forward pass and the input gradient: both gather, for every output voxel, a set of
// source voxels. A strided input gradient falls into phases (parities of the output position); inside one
// phase every voxel reads the same pattern, so no zero is ever multiplied.
#pragma once

#include <algorithm>

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class Gather final : public Convolution {
 public:
  Gather(const Conv3dProblem& problem, bool inputGradient);

  // True where a gather of so many channels, of one group, sums one tap at a time: no tap in the padding
  // costs anything then.
  static bool paysPerTap(int64_t reduced, int64_t produced, int64_t taps);

  bool places() const override { return perTap_ && problem_.groups == 1; }
  // One at least, though no tap may reach the source.
  size_t packedFloats() const override { return std::max<size_t>(1, static_cast<size_t>(packedFloats_)); }
  void pack(const float* w, float* packed) const override;
  size_t workspace() const override;
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Phase;
  struct Tiling;
  struct TapPlan;
  struct Buffers {
    const float *source, *edges, *zeroRow, *packed, *bias;
    float* output;
  };

  template <typename Visit>
  void forEachPhase(Visit visit) const;
  Phase makePhase(const int64_t (&phase)[3]) const;
  int64_t floatsPerVector(const Phase& phase) const;
  int64_t paddedRow() const { return (padLeft_ + sourceExtent_[2] + padRight_) * sourceChannels_; }
  int64_t groupSize(int64_t count, int vectors) const;

  void chooseEdges();
  void padSource(const float* source, float* padded) const;
  void copyEdges(const float* source, float* edges) const;
  void packBias(const float* bias, float* packed) const;
  void packPhase(const Phase& phase, const float* w, float* packed) const;
  struct Range {
    int64_t first, end;
  };
  void packPart(const Phase& phase, const float* w, int64_t group, Range blocks, Range reduced,
                float* packed) const;
  Tiling tilingOf(const Phase& phase) const;
  void runPhase(const Phase& phase, const Buffers& buffers) const;
  void runColumn(const Phase& phase, const Tiling& tiling, const Buffers& buffers, int64_t column,
                 int64_t firstRow, int64_t lastRow) const;

  int64_t chunks() const;
  void runTaps(const Phase& phase, const Buffers& buffers) const;
  void runBlock(const Phase& phase, const Buffers& buffers, const TapPlan& plan, int64_t firstColumn,
                int64_t lastColumn) const;
  TapPlan planTaps(const Phase& phase, int64_t firstRow, int64_t lastRow) const;
  void listGroups(const Phase& phase, const int64_t (&first)[3], const int64_t (&last)[3], TapPlan& plan,
                  int64_t (&ends)[3]) const;
  void fillBias(const Phase& phase, const TapPlan& plan, const float* bias, int64_t channels,
                float* output) const;
  int64_t outputRowOf(const Phase& phase, int64_t n, int64_t z, int64_t p) const;
  int64_t placeRow(const Phase& phase, const Tiling& tiling, int64_t index, int64_t* sourceRows) const;

  const Conv3dProblem problem_;
  const Conv3dKernels& kernels_;
  const bool inputGradient_;
  int64_t sourceExtent_[3], outputExtent_[3], kernel_[3];
  int64_t sourceChannels_, outputChannels_;  // of the whole tensors: from one voxel to the next
  int64_t reduced_, produced_;               // channels of one group
  int64_t outputStride_, reducedStride_;     // in w, between output and between reduced channels of a group
  int reduction_;                            // source floats per step: see Conv3dKernels::gather
  int64_t vectors_;                          // vectors of output channels of one group
  bool perTap_ = false;                      // one tap at a time: see conv3d_gather_taps.cc
  bool copies_ = false;                      // rows must be copied into the workspace, with zeros around them
  int64_t padLeft_ = 0, padRight_ = 0;       // voxels
  // Long rows are read in place: only what their first and last group of voxels read is copied.
  bool edges_ = false;
  int64_t edgeVoxels_ = 0, edgeOrigin_[2] = {0, 0};  // length of an edge and its first source voxel
  int64_t packedFloats_ = 0;                         // all phases, one after another
};

struct Gather::Phase {
  GatherAxis axis[3];
  int64_t rowTaps;   // taps in depth times taps in height
  int64_t segments;  // per row tap: 1 when the taps along W read one run of floats, else one per tap
  int64_t run;       // source floats in a segment
  int64_t steps;     // reduction steps in a segment
  int64_t packed;    // where its weights start among the packed ones, in floats
  bool shared;       // the three taps along W share their broadcasts: see Conv3dKernels::gatherShared

  int64_t tapsPerStep() const { return shared ? 3 : 1; }
};

struct Gather::Tiling {
  int64_t size;          // index into kGroupSizes
  int64_t voxels;        // in a group
  int64_t groupsPerRow;  // the last one overlaps its neighbour where voxels do not divide the row
  bool sampleInner;
  int64_t rows, rowsPerTask;
};

}  // namespace voxgrad::cpu
