// The table of micro-kernels behind the convolution family, compiled once per instruction set. Structs of
// plain data only: sources of every instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// A tile of output voxels times a block of output channels, accumulated in registers over a list of
// segments. The voxels come in `groups` of V neighbours along W; each segment is a run of source floats that
// every voxel meets at its own address, and the packed weights for it. Serves forward and input gradient.
struct GatherTile {
  const float* const* sources;  // [segments][sourceRows]
  int64_t sourceRows;
  const int64_t* rows;          // [groups]: a group's row among sourceRows, and
  const int64_t* offsets;       // [groups]: where in it the run of its first voxel starts, in floats
  const float* const* weights;  // [segments]: packed [steps][vectors][lanes]
  int64_t segments;
  int64_t steps;          // reduction steps in a segment, of `reduction` source floats each
  int64_t sourceStride;   // floats between the runs of neighbouring voxels of a group
  int64_t ahead;          // floats from a group to the one whose source is worth fetching
  float* const* outputs;  // [groups]
  int64_t outputStride;   // floats between neighbouring voxels of a group
  const float* bias;      // [vectors][lanes]; null: the sums are added to what the output holds
  int64_t channels;       // output channels to store
};
using GatherKernel = void (*)(const GatherTile&);

constexpr int kMaxGroups = 8;             // groups of a gather tile
constexpr int kMaxVectors = 2;            // vectors of output channels in a gather tile
constexpr int kGroupSizes[] = {1, 2, 4};  // voxels in a group, by index

struct Conv3dKernels {
  int lanes;

  // [reduction - 1][vectors - 1][group size index][groups - 1]; null beyond maxGroups.
  // reduction 1: a lane is an output channel. reduction 2: two neighbouring lanes hold the sums over even
  // and odd source floats of one output channel, which fills a vector from half as many channels.
  GatherKernel gather[2][kMaxVectors][3][kMaxGroups];
  int maxGroups[kMaxVectors][3];

  // [reduction - 1][groups - 1] for one vector and groups of 4: three taps along W, one voxel apart, meet
  // every source float once. Packed weights are [steps][3 taps][lanes] and a segment is one voxel's channels.
  GatherKernel gatherShared[2][kMaxGroups];

  // dst[i * dstStride + lane] = src[lane * srcStride + i] for i < count, lane < outputs; other lanes zero.
  void (*packTransposed)(float* dst, int64_t dstStride, const float* src, int64_t srcStride, int64_t outputs,
                         int64_t count);

  // dst[i * dstStride + lane] = src[i * srcStride + lane], with the same limits.
  void (*packRows)(float* dst, int64_t dstStride, const float* src, int64_t srcStride, int64_t outputs,
                   int64_t count);
};

}  // namespace cpu
}  // namespace voxgrad
