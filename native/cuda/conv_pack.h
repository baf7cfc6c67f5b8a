// The order in which kernels read the weights of an input gradient.
#pragma once

#include "../core/conv_problem.h"
#include "bf16.h"

namespace voxgrad::cuda {

// Blocks that `packTransposed` launches, which needs them to be below 2^31.
int64_t packBlocks(const Conv3dProblem& problem);
// w [groups, K / groups, taps, C / groups] to packed [groups, C / groups, taps, K / groups].
void packTransposed(const Conv3dProblem& problem, const float* w, float* packed);
void packTransposed(const Conv3dProblem& problem, const float* w, Bf16* packed);

}  // namespace voxgrad::cuda
