// The weight gradient as a matrix product whose depth is the voxels: of slabs of them, which are then added.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

// The name of what `runWeightGradients` launches where the operands are aligned to 16 bytes.
const char* weightGradientName(const Conv3dProblem& problem, Precision precision);
// Several are made by one launch where their operands have the same voxels and channels.
constexpr size_t mostWeightGradients = 16;

// Blocks that `runWeightGradients` launches, which needs them to be below 2^31.
int64_t weightGradientBlocks(const std::vector<Conv3dProblem>& problems, Precision precision);
size_t weightGradientWorkspace(const std::vector<Conv3dProblem>& problems, Precision precision);
// All of one precision, in one workspace.
void runWeightGradients(const std::vector<GradientOperands>& gradients);

}  // namespace voxgrad::cuda
