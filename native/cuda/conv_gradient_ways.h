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

  // The same for ways that normalise x as they load it.
  bool normalizes() const { return kind == halo || kind == cudnn; }
  size_t normalizingWorkspace(const Conv3dProblem& problem, Precision precision) const;
  // Needs operands and result to be aligned to 16 bytes.
  void runNormalizing(const GradientOperands& operands, const SourceNorm& norm) const;
};

// The first is what the table takes. Of those that normalise, which may be none, it is the first one that
// does.
std::vector<GradientWay> gradientWaysOf(const Conv3dProblem& problem, Precision precision, bool normalize);
// The one that the step's attribute `way` numbers, or the first. Throws Error("ERR_PLAN") where there is
// none.
GradientWay gradientWayOf(const Step& step, const Conv3dProblem& problem, bool normalize);

}  // namespace voxgrad::cuda
