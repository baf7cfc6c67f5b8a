// Which rows of the source some neighbouring rows of outputs read, and by which weights, in a forward pass or
// an input gradient of any stride.
#pragma once

#include <vector>

#include "conv3d_geometry.h"
#include "source_row.h"

namespace voxgrad::cpu {

class SourceRows {
 public:
  // `channels`: of a voxel of the source; `tapFloats`: of the weights of a tap, those of a row lying
  // together.
  SourceRows(const Conv3dProblem& problem, bool inputGradient, int64_t channels, int64_t tapFloats);

  // What a kernel computes with, and how much at a time.
  struct Call {
    GatheredRowsKernel kernel;
    int64_t rows;        // at most kMaxOutputRows
    int64_t taskFloats;  // of the outputs, or of the source where that is more
    int64_t outputChannels;
    int64_t vectorWeights;  // see GatheredRows
    bool fetches;
  };
  // Calls the kernel for all outputs, on all threads.
  void run(const Call& call, const float* source, const float* packed, const float* bias,
           float* output) const;

 private:
  // Rows of the outputs of one plane.
  struct Rows {
    int64_t sample, d, h, count;
  };
  // The outputs along W that read by the same taps, and these.
  struct Phase {
    GatherAxis axis;
    std::vector<TapRun> taps;
  };

  std::vector<GatherAxis> axesOf(int a) const;
  int64_t most() const;
  int64_t list(const Rows& rows, const float* source, const float* packed, SourceRow* to) const;

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t depth_, height_, width_;  // of the source
  const int64_t channels_, tapFloats_;
  const std::vector<GatherAxis> axesD_, axesH_;
  std::vector<Phase> phases_;
};

}  // namespace voxgrad::cpu
