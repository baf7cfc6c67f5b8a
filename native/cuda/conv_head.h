// Gradients of a 1x1x1 convolution to a few channels, which are those that a network ends with: there is
// hardly a matrix product in them, and tiles of one would be mostly empty. In float32 for every precision.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

constexpr const char* headName = "head input gradient";

bool suitsHead(const Gather& gather, Precision precision);
// Needs the output to be aligned to 16 bytes.
void runHead(const GatherCall& call);

bool suitsHeadWeightGradient(const Conv3dProblem& problem, Precision precision);
// The name of what `runHeadWeightGradient` launches.
const char* headWeightGradientName(const Conv3dProblem& problem);
size_t headWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision);
// Needs x to be aligned to 16 bytes.
void runHeadWeightGradient(const GradientOperands& operands);

}  // namespace voxgrad::cuda
