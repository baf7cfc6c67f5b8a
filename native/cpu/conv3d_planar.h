// Convolutions with stride 1, of several taps, to a few channels, such as the input gradients of first layers
// behind conv3d_mirrored.h. Rows of the source are turned to planar form, channel by channel, so that lanes
// are voxels and none is empty. What was turned adds at once to all outputs that read it. Three taps along H
// can be multiplied by Winograd's F(4, 3) along that axis, which needs no shuffles: six rows of the source
// make four of outputs.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

class Planar final : public Convolution {
 public:
  // `transforms`: by Winograd.
  Planar(const Conv3dProblem& problem, bool transforms);

  static bool fits(const Conv3dProblem& problem);
  static bool canTransform(const Conv3dProblem& problem);
  // In the unit of conv3d_algorithm.cc.
  static double cost(const Conv3dProblem& problem, bool transforms);

  size_t packedFloats() const override { return static_cast<size_t>(parts_ * partFloats_); }
  void pack(const float* w, float* packed) const override;

  size_t workspace() const override { return 0; }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  struct Block;

  int64_t lineFloats() const { return problem_.K * sumPitch_; }
  int64_t linesOf(int64_t rows) const;
  void packTaps(const float* w, float* packed) const;
  template <typename Visit>
  void forEachChunk(Visit visit) const;
  void addRows(const Block& block, const float* plane, int64_t z) const;
  void addTiles(const Block& block, const float* plane, int64_t z) const;
  void addLine(const Block& block, int64_t z, int64_t part, int64_t line, const float* planes, int64_t first,
               int64_t channels) const;
  void storePlane(const Block& block, int64_t z, const float* bias, float* output) const;
  void storeRow(const float* sums, const float* bias, float* output) const;

  const Conv3dProblem problem_;
  const PlanarKernels& kernels_;
  const bool transforms_;
  const int64_t parts_;            // of the filters: taps along H, or points
  int64_t partFloats_;             // of their weights [C][T][R][K]
  int64_t sumPitch_, planePitch_;  // floats of a row of outputs, and of a channel of a row of the source
  int64_t lead_;                   // zeros before the first voxel of such a channel
  int64_t chunk_;                  // channels that are turned at once
  int64_t blockPlanes_, blockRows_;
};

}  // namespace voxgrad::cpu
