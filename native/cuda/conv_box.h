// How the output of a convolution without a stride is cut into boxes of voxels, and which taps one needs.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Along batch, depth, height and width.
struct BoxPlan {
  int box[4], blocks[4];

  __host__ __device__ int voxels() const { return box[0] * box[1] * box[2] * box[3]; }
  int64_t count() const { return int64_t{blocks[0]} * blocks[1] * blocks[2] * blocks[3]; }
};

// Of boxes with up to `most` voxels, the plan with the fewest, and of such plans the one whose boxes are
// widest.
BoxPlan boxPlanOf(const Gather& gather, int most);

// One box, and along each axis of space the taps that some voxel of it reaches.
struct Box {
  int first[4];
  int firstTap[3], taps[3];

  __device__ Box(const Gather& gather, const BoxPlan& plan, int64_t index) {
    for (int i = 3; i >= 0; i--) {
      first[i] = static_cast<int>(index % plan.blocks[i]) * plan.box[i];
      index /= plan.blocks[i];
    }
    for (int i = 0; i < 3; i++) {
      const GatherAxis& axis = gather.axis[i];
      const int left = axis.output - first[i + 1], size = left < plan.box[i + 1] ? left : plan.box[i + 1];
      firstTap[i] = taps[i] = 0;
      for (int tap = 0; tap < axis.taps; tap++) {
        const int source = sourceOf(gather, i, tap);
        if (source >= axis.source || source + size <= 0) continue;
        if (taps[i]++ == 0) firstTap[i] = tap;
      }
    }
  }

  // Where along an axis the box lies that a tap reads; it may be outside in part.
  __device__ __forceinline__ int sourceOf(const Gather& gather, int axis, int tap) const {
    const GatherAxis& along = gather.axis[axis];
    return first[axis + 1] +
           (gather.transposed ? along.pad - tap * along.dilation : tap * along.dilation - along.pad);
  }

  // The output voxel that is number `row` of the box, or -1.
  __device__ __forceinline__ int64_t voxelOf(const Gather& gather, const BoxPlan& plan, int row) const {
    int position[4];
    for (int i = 3; i >= 0; i--) {
      position[i] = first[i] + row % plan.box[i];
      row /= plan.box[i];
    }
    if (row > 0 || position[0] >= gather.batch) return -1;
    int64_t voxel = position[0];
    for (int i = 0; i < 3; i++) {
      if (position[i + 1] >= gather.axis[i].output) return -1;
      voxel = voxel * gather.axis[i].output + position[i + 1];
    }
    return voxel;
  }
};

}  // namespace voxgrad::cuda
