// The weight gradient of a convolution as products of warpgroups, for devices of compute
// capability 9: the depth is boxes of voxels of dy, and what a tap reads of x for them, boxes too. In
// bfloat16, of one group.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether the device can, and the channels suit the copy engine.
bool warpgroupsTakeWeightGradient(const Conv3dProblem& problem, Precision precision);
// Whether they are the usual way: channels fill the tiles, and boxes are not mostly empty.
bool suitsWarpgroupWeightGradient(const Conv3dProblem& problem, Precision precision);
// The tile that suits a shape, and how many there are; a tile is a number.
int warpgroupGradientTile(const Conv3dProblem& problem);
constexpr int warpgroupGradientTiles = 3;
const char* warpgroupGradientName(int tile);
size_t warpgroupGradientWorkspace(const Conv3dProblem& problem, int tile);
// Needs operands that are aligned to 16 bytes.
void runWarpgroupGradient(const GradientOperands& operands, int tile);

}  // namespace voxgrad::cuda
