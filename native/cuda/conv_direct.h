// Convolutions of many small groups, depthwise ones above all: there is no matrix product in them.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

constexpr const char* directName = "direct convolution";

// Whether a group has so few channels that tiles of a matrix product would be mostly empty.
inline bool isDirect(const Gather& gather) {
  return gather.groups > 1 && gather.columns <= 4 && gather.depth <= 16;
}

void runDirect(const GatherCall& call);

// The weight gradient of such a convolution.
size_t directWeightGradientWorkspace(const Conv3dProblem& problem);
void runDirectWeightGradient(const GradientOperands& operands);

}  // namespace voxgrad::cuda
