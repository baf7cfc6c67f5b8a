// The forward pass and the input gradient of convolutions of few voxels (voxel_pairs.h). The weights are read
// once, from end to end, as they are: packing would read and write them again, for few products.
#pragma once

#include "convolution.h"
#include "voxel_pairs.h"

namespace voxgrad::cpu {

class FewVoxels final : public Convolution {
 public:
  FewVoxels(const Conv3dProblem& problem, bool inputGradient);

  // True where that is faster than packing, where packed weights serve once.
  static bool fits(const Conv3dProblem& problem);

  size_t packedFloats() const override { return 0; }
  void pack(const float*, float*) const override {}
  size_t workspace() const override;
  void run(const float* source, const float* w, const float* bias, float* output,
           void* workspace) const override;

 private:
  void runForward(const VoxelPairs& pairs, const float* x, const float* w, const float* bias, float* y) const;
  void runInputGradient(const VoxelPairs& pairs, const float* dy, const float* w, const float* bias,
                        float* dx, float* sums) const;

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t xFloats_;
  const int64_t parts_;
};

}  // namespace voxgrad::cpu
