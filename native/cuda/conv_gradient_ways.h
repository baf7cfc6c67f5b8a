// The ways of computing a weight gradient, as conv_ways.h has them of convolutions.
#pragma once

#include <vector>

#include "conv_gather.h"

namespace voxgrad {
struct Step;
}

namespace voxgrad::cuda {

struct GradientWay {
  enum Kind { direct, stem, head, halo, gemm, warpgroups, cudnn } kind;
  int tile = 0;      // of warpgroups
  size_t bytes = 0;  // of cuDNN's workspace

  // What plans print.
  const char* name(const Conv3dProblem& problem, Precision precision) const;
  size_t workspace(const Conv3dProblem& problem, Precision precision) const;
  void run(const GradientOperands& operands) const;
};

// The first is what the table takes.
std::vector<GradientWay> gradientWaysOf(const Conv3dProblem& problem, Precision precision);
// The one that the step's attribute `way` numbers, or the first. Throws Error("ERR_PLAN") where there is
// none.
GradientWay gradientWayOf(const Step& step, const Conv3dProblem& problem);

}  // namespace voxgrad::cuda
