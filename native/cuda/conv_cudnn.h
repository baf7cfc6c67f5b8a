// Convolutions by cuDNN, where it is there and takes the problem: one of the ways that tuning compares.
#pragma once

#include "../core/conv_problem.h"
#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether cuDNN computes this, and with how much device memory.
bool cudnnTakes(const Gather& gather, Precision precision, size_t* workspace);
// Whether it was done: not where an operand is not aligned to 16 bytes, or cuDNN does not write floats from
// bf16.
bool runCudnn(const GatherCall& call, void* workspace);

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, size_t* workspace);
void runCudnnWeightGradient(const GradientOperands& operands);

// What plans print.
const char* cudnnName(Precision precision);

}  // namespace voxgrad::cuda
