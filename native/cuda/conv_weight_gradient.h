// The weight gradient as a matrix product whose depth is the voxels: of slabs of them, which are then added.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// The name of what `runWeightGradient` launches where the operands are aligned to 16 bytes.
const char* weightGradientName(const Conv3dProblem& problem, Precision precision);
// Blocks that it launches; `runWeightGradient` needs them to be below 2^31.
int64_t weightGradientBlocks(const Conv3dProblem& problem, Precision precision);
size_t weightGradientWorkspace(const Conv3dProblem& problem, Precision precision);
void runWeightGradient(const GradientOperands& operands);

// dw = the sum of `slabs` partial gradients of `count` numbers, in order.
void addSlabs(const float* partial, int64_t slabs, int64_t count, float* dw);

}  // namespace voxgrad::cuda
