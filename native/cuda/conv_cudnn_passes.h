// What is done around cuDNN's kernels by passes of our own: over weights, and over a number or two for each
// channel, but for the sum of a bias.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Packed weights as [filters, taps, channels of a group], which is how cuDNN reads those of an input
// gradient.
void unpackWeights(const GatherCall& call, void* w);
// Adds the bias to the output, where cuDNN has no kernel that does.
void addBias(const GatherCall& call);
// A normalisation as x scale + shift, for every channel.
void foldNorm(const SourceNorm& norm, int64_t channels, float* scale, float* shift);
// Makes call.moments of the sums and the sums of squares of the output's channels.
void finishMoments(const GatherCall& call, const float* sums, const float* squares);

}  // namespace voxgrad::cuda
