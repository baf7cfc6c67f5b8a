// Convolutions of one source side by side, and their summed input gradients, as one implicit matrix product:
// rows are voxels, columns output channels, and the depth is channels of the source at each tap. Results are
// as large as the source, so a tap is a distance between voxels whatever branch it belongs to.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad::cuda {

constexpr int mostBranches = 16;

struct AsppCall {
  struct Branch {
    const void* weights;  // [columns, taps, depth]
    int kernel[3], dilation[3];
    int taps;
  };

  Precision precision;
  int64_t voxels;
  int extent[3];
  bool transposed;     // an input gradient: all branches are summed
  int depth, columns;  // channels of the source, and of the output, that belong to one branch
  int branches;
  const void* source;  // of the elements of the precision, as the weights
  void* output;
  bool narrow;  // whether that is bf16: with no other precision
  Branch branch[mostBranches];

  // Numbers from one voxel to the next.
  __host__ __device__ int64_t sourcePitch() const { return int64_t{depth} * (transposed ? branches : 1); }
  __host__ __device__ int64_t outputPitch() const { return int64_t{columns} * (transposed ? 1 : branches); }
};

AsppCall asppCall(const std::vector<AsppBranch>& branches, bool transposed, Precision precision);

// The name of what `runAspp` launches where the operands are aligned to 16 bytes.
const char* asppName(const AsppCall& call);
// Blocks that it launches; `runAspp` needs them to be below 2^31.
int64_t asppBlocks(const AsppCall& call);
// `whole`: the operands are aligned so.
void runAspp(const AsppCall& call, bool whole);

}  // namespace voxgrad::cuda
