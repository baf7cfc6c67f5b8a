// Convolutions of many small groups, depthwise ones above all: there is no matrix product in them.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

constexpr const char* directName = "direct convolution, f32";

// Whether a group has so few channels that tiles of a matrix product would be mostly empty.
inline bool isDirect(const Gather& gather) {
  return gather.groups > 1 && gather.columns <= 4 && gather.depth <= 16;
}

void runDirect(const GatherCall& call);

// The weight gradient of such a convolution.
size_t directWeightGradientWorkspace(const Conv3dProblem& problem);
void runDirectWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                             void* workspace);

}  // namespace voxgrad::cuda
