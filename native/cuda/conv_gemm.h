// Convolution and input gradient as an implicit matrix product: rows are output voxels, columns output
// channels, and the depth is taps times source channels.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// The name of what `runGemm` launches where the operands are aligned to 16 bytes.
const char* gemmName(const Gather& gather, Precision precision);
// Blocks that it launches; `runGemm` needs them to be below 2^31.
int64_t gemmBlocks(const Gather& gather);
void runGemm(const GatherCall& call);

}  // namespace voxgrad::cuda
