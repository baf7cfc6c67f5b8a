// Convolution and input gradient as products of warpgroups, for devices of compute capability 9: rows are the
// voxels of a box of the output, and what a tap reads of the source for them is what the copy engine brings,
// in steps where there is a stride. In bfloat16 or TF32, of one group.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether the device can, the channels suit the copy engine, and boxes are not mostly empty.
bool warpgroupsTake(const Gather& gather, Precision precision);
// The tile that suits a shape, and all that might; a tile is a number.
int warpgroupTile(const Gather& gather);
std::vector<int> warpgroupTiles(const Gather& gather);
const char* warpgroupName(int tile, Precision precision);
// Blocks of threads for each part, and rows of all their boxes, those that are no voxels too.
int64_t warpgroupBlocks(const Gather& gather, int tile);
int64_t warpgroupRows(const Gather& gather, int tile);
// Boxes, each of which yields sums of its own where the depth is not cut.
int64_t warpgroupChunks(const Gather& gather, int tile);
// The depth may be cut into parts, each with an output of its own behind the one before. Needs operands that
// are aligned to 16 bytes.
void runWarpgroups(const GatherCall& call, int tile, int parts);

}  // namespace voxgrad::cuda
