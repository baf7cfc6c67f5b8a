// How the output of a convolution is cut into boxes of voxels, and which taps one needs. Of an input gradient
// with a stride, a box has voxels of one class: see Lattice.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Along batch, depth, height and width.
struct BoxPlan {
  int box[4], blocks[4];

  __host__ __device__ int voxels() const { return box[0] * box[1] * box[2] * box[3]; }
  int64_t count() const { return int64_t{blocks[0]} * blocks[1] * blocks[2] * blocks[3]; }
};

// Of boxes with up to `most` voxels, the plan with the fewest for each class, and of such plans the one whose
// boxes are widest. What a box reads of the source spans less than 256 voxels along each axis where it can.
BoxPlan boxPlanOf(const Gather& gather, int most);

// One box, and along each axis of space the taps of its lattice that some voxel of it reaches.
struct Box {
  Lattice lattice[3];
  int first[4];
  int firstTap[3], taps[3];

  // Boxes of all classes at one place follow each other.
  __device__ Box(const Gather& gather, const BoxPlan& plan, int64_t index) {
    for (int i = 2; i >= 0; i--) {
      const int classes = gather.axis[i].classes(gather.transposed);
      lattice[i] = gather.axis[i].lattice(gather.transposed, static_cast<int>(index % classes));
      index /= classes;
    }
    for (int i = 3; i >= 0; i--) {
      first[i] = static_cast<int>(index % plan.blocks[i]) * plan.box[i];
      index /= plan.blocks[i];
    }
    for (int i = 0; i < 3; i++) {
      const int left = lattice[i].count - first[i + 1],
                size = left < plan.box[i + 1] ? left : plan.box[i + 1];
      firstTap[i] = taps[i] = 0;
      for (int tap = 0; tap < lattice[i].taps && size > 0; tap++) {
        const int source = sourceOf(i, tap), last = source + (size - 1) * lattice[i].sourceStep;
        if (source >= gather.axis[i].source || last < 0) continue;
        if (taps[i]++ == 0) firstTap[i] = tap;
      }
    }
  }

  // Where along an axis the box begins that a tap reads; it may be outside in part.
  __device__ __forceinline__ int sourceOf(int axis, int tap) const {
    const Lattice& along = lattice[axis];
    return along.sourceFirst + along.sourceStep * first[axis + 1] + along.shift * tap;
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
      if (position[i + 1] >= lattice[i].count) return -1;
      voxel = voxel * gather.axis[i].output + lattice[i].first + lattice[i].step * position[i + 1];
    }
    return voxel;
  }
};

}  // namespace voxgrad::cuda
