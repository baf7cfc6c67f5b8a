// Convolutions by cuDNN, where it is there and takes the problem: one of the ways that tuning compares.
//
// An input gradient without a stride is a convolution of dy with the packed weights, taps in reverse order,
// which is what cuDNN calls a convolution; the others are cross-correlations to it.
#pragma once

#include "../core/conv_problem.h"
#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether cuDNN computes this, and with how much device memory.
bool cudnnTakes(const Gather& gather, Precision precision, size_t* workspace);
void runCudnn(const GatherCall& call, void* workspace);

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, size_t* workspace);
void runCudnnWeightGradient(const GradientOperands& operands);

// What plans print.
const char* cudnnName(Precision precision);

}  // namespace voxgrad::cuda
