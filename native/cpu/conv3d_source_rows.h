// Which rows of the source some neighbouring rows of outputs read, and by which weights, in a forward pass or
// an input gradient of any stride.
#pragma once

#include <vector>

#include "conv3d_geometry.h"
#include "source_row.h"

namespace voxgrad::cpu {

// Rows of the outputs of one plane.
struct OutputRows {
  int64_t sample, d, h, count;
};

class SourceRows {
 public:
  // `rowFloats`: of a row of the source; `rowWeights`: of the taps of a row; `tapFloats`: of one.
  SourceRows(const Conv3dProblem& problem, bool inputGradient, int64_t rowFloats, int64_t rowWeights,
             int64_t tapFloats);

  // How many rows of the source some rows of outputs read at most.
  int64_t most() const;

  // What `rows` read, in order, is written to `to`, which has room for most(); how many they are.
  int64_t list(const OutputRows& rows, const float* source, const float* packed, SourceRow* to) const;

  // The outputs along W that read by the same taps, and these.
  struct Phase {
    GatherAxis axis;
    std::vector<TapRun> taps;
  };
  const std::vector<Phase>& phases() const { return phases_; }

 private:
  std::vector<GatherAxis> axesOf(int a) const;

  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t depth_, height_;  // of the source
  const int64_t rowFloats_, rowWeights_;
  const std::vector<GatherAxis> axesD_, axesH_;
  std::vector<Phase> phases_;
};

}  // namespace voxgrad::cpu
