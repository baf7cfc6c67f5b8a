// The implicit matrix product of small maps with many channels: there are too few tiles of the output to fill
// a device, so their depth is cut into parts, whose products are added in order.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

// What computes parts, each with an output of its own behind the one before.
struct PartsKernel {
  void (*run)(const GatherCall& call, int tile, int parts);
  int tile;
};

// Into how many parts the depth is cut where nothing else is said and a part takes so many blocks of threads;
// 1 leaves it whole. By the shape alone, so that sums have the same order on every device.
int usualParts(const Gather& gather, Precision precision, int64_t blocks);
// All numbers of parts that might suit.
std::vector<int> partsOf(const Gather& gather, Precision precision, int64_t blocks);
// Device memory that `runSplit` needs. Of several parts it makes call.moments itself, where call.sums is set.
size_t splitBytes(const Gather& gather, int parts);
void runSplit(const GatherCall& call, const PartsKernel& kernel, int parts, void* workspace);

}  // namespace voxgrad::cuda
