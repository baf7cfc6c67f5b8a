// Convolutions by cuDNN, where it is there and takes the problem: one of the ways that tuning compares. In
// one kernel with a convolution it may normalise its source, and sum what it stores for its moments.
#pragma once

#include "../core/conv_problem.h"
#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether cuDNN computes this with those extras, a bias perhaps in a pass of its own, and with how much
// device memory.
bool cudnnTakes(const Gather& gather, Precision precision, const Extras& extras, size_t* workspace);
// Whether it was done: not where an operand is not aligned to 16 bytes. `sums`: call.moments are made as
// well.
bool runCudnn(const GatherCall& call, bool sums, void* workspace);

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, bool normalizes,
                              size_t* workspace);
// `norm` says how x is normalised as it is loaded. Needs operands and result to be aligned to 16 bytes.
void runCudnnWeightGradient(const GradientOperands& operands, const SourceNorm& norm = {});

// What plans print; `sums` as above.
const char* cudnnName(Precision precision, bool sums = false);

}  // namespace voxgrad::cuda
