// Convolution and input gradient, without strides and of few channels, by blocks of voxels: what a block
// reads of the source, its halo included, is brought to shared memory once for all taps. Sums have the order
// of the implicit matrix product, and so the same bits.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether the halo saves enough reads for that, and fits.
bool suitsHalo(const Gather& gather, Precision precision);
// The name of what `runHalo` launches.
const char* haloName(const Gather& gather, Precision precision);
// Blocks of voxels, each of which yields sums of its own.
int64_t haloChunks(const Gather& gather, Precision precision);
// Needs source and weights to be aligned to 16 bytes. Normalises the source where the call says so.
void runHalo(const GatherCall& call);

}  // namespace voxgrad::cuda
