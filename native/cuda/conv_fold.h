// Convolution and input gradient to 9 to 16 channels with three taps along the width, by blocks of voxels
// with a halo as in conv_halo.h. Tiles of so few columns would read every source voxel from shared memory
// three times, once for each tap along the width, and be bound by that: here these taps are three groups of
// columns, so a source voxel is read and multiplied once. Its three products belong to three neighbouring
// output voxels, at which they are added before anything is stored.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether there are such taps, and the halo saves enough reads and fits.
bool suitsFold(const Gather& gather, Precision precision);
// The name of what `runFold` launches.
const char* foldName(Precision precision);
// Blocks of voxels, each of which yields sums of its own.
int64_t foldChunks(const Gather& gather, Precision precision);
// Needs source and weights to be aligned to 16 bytes. Normalises the source where the call says so.
void runFold(const GatherCall& call);

}  // namespace voxgrad::cuda
