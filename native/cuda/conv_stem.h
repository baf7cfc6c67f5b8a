// Convolutions of maps of one channel, as the first of a network are, and their weight gradients: there the
// depth of the matrix product is made of taps. A block of output voxels has what it reads of the map in
// shared memory, with the padding zero.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

bool suitsStem(const Gather& gather, Precision precision);
// The name of what `runStem` launches.
const char* stemName(const Gather& gather, Precision precision);
// Blocks of voxels, each of which yields sums of its own.
int64_t stemChunks(const Gather& gather, Precision precision);
void runStem(const GatherCall& call);

bool suitsStemWeightGradient(const Conv3dProblem& problem, Precision precision);
// The name of what `runStemWeightGradient` launches.
const char* stemWeightGradientName(const Conv3dProblem& problem, Precision precision);
size_t stemWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision);
// Needs dy to be aligned to 16 bytes.
void runStemWeightGradient(const GradientOperands& operands);

}  // namespace voxgrad::cuda
