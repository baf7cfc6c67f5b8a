// Convolution and input gradient as an implicit matrix product: rows are output voxels, columns output
// channels, and the depth is taps times source channels.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

// The tile that suits a shape, and all that might; a tile is a number.
int gemmTile(const Gather& gather, Precision precision);
std::vector<int> gemmTiles(const Gather& gather, Precision precision);
// The name of what `runGemm` launches where the operands are aligned to 16 bytes; others take tiles of single
// numbers.
const char* gemmName(int tile, Precision precision);
// Blocks that it launches for each part, and of any tile.
int64_t gemmBlocks(const Gather& gather, int tile);
int64_t mostGemmBlocks(const Gather& gather);
// Blocks of voxels, each of which yields sums of its own where the operands are aligned.
int64_t gemmChunks(const Gather& gather, int tile);
// The depth may be cut into parts of whole tiles, each with an output of its own behind the one before. Needs
// the blocks of all parts to be below 2^31. There are no sums of parts.
void runGemm(const GatherCall& call, int tile, int parts);

}  // namespace voxgrad::cuda
