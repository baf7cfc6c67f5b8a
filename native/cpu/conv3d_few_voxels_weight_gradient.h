// The weight gradient of convolutions of few voxels (voxel_pairs.h): summed over all of them in registers,
// and written once, from end to end.
#pragma once

#include "convolution.h"
#include "voxel_pairs.h"

namespace voxgrad::cpu {

class FewVoxelsWeightGradient final : public ConvolutionWeightGradient {
 public:
  explicit FewVoxelsWeightGradient(const Conv3dProblem& problem) : problem_(problem) {}

  static bool fits(const Conv3dProblem& problem) { return problem.yPitch == 0 && hasFewVoxels(problem); }

  size_t workspace() const override { return 0; }
  void run(const float* x, const float* dy, float* dw, void* workspace) const override;

 private:
  const Conv3dProblem problem_;
};

}  // namespace voxgrad::cpu
