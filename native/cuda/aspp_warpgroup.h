// Convolutions of one source side by side, and their summed input gradients, as products of warpgroups: one
// launch for all branches, with taps far outside of the source left out. In bfloat16 or TF32.
#pragma once

#include "aspp_gemm.h"

namespace voxgrad::cuda {

// Whether the device can, the channels suit the copy engine, and tiles are not mostly empty; and whether that
// is the usual way.
bool asppWarpgroupsTake(const AsppCall& call);
bool suitsAsppWarpgroups(const AsppCall& call);
// The tile that suits a shape, and all that might; a tile is a number.
int asppWarpgroupTile(const AsppCall& call);
std::vector<int> asppWarpgroupTiles(const AsppCall& call);
const char* asppWarpgroupName(int tile, Precision precision);
// Needs operands that are aligned to 16 bytes.
void runAsppWarpgroups(const AsppCall& call, int tile);

}  // namespace voxgrad::cuda
