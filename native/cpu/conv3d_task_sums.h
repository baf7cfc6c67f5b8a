// The sums that the tasks of a convolution make of their outputs, and the moments that follow from them.
#pragma once

#include "channel_sums.h"
#include "conv3d_geometry.h"

namespace voxgrad::cpu {

class TaskSums {
 public:
  // Room for tasks of `vectors` vectors of `lanes` channels.
  TaskSums(WorkspaceCursor& cursor, int64_t tasks, int64_t vectors, int64_t lanes);

  // Those of a task for some vectors from `vector` on, cleared.
  ChannelSums begin(int64_t task, int64_t vector, int64_t vectors) const;
  void end(int64_t task, const ChannelSums& sums) const { voxels_[task] = sums.voxels; }
  // Mean and biased variance of each channel, [channels][2].
  void merge(int64_t channels, float* moments) const;

 private:
  int64_t tasks_, vectors_, lanes_;
  float* shifts_;
  double* totals_;
  int64_t* voxels_;
};

}  // namespace voxgrad::cpu
