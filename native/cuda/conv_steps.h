// What the steps of convolutions have in common. What each of them is, says conv.cu or conv_packed.cu.
#pragma once

#include "conv_check.h"
#include "conv_ways.h"

namespace voxgrad::cuda {

inline int64_t weightsOf(const Conv3dProblem& p) { return p.K * p.taps() * (p.C / p.groups); }

// Kernels count positions along an axis, taps times channels of a group, and blocks in 32 bits: each throws
// Error("ERR_PLAN") where those do not suffice.
void checkExtents(const Step& step, const Conv3dProblem& problem);
void checkGather(const Step& step, const Conv3dProblem& problem, bool transposed);

std::vector<std::string> namesOf(const std::vector<GatherWay>& ways, const Gather& gather,
                                 Precision precision);

// A kernel that knows several ways of computing a step.
inline Kernel named(Kernel kernel, const char* (*algorithm)(const Step&),
                    std::vector<std::string> (*ways)(const Step&)) {
  kernel.algorithm = algorithm;
  kernel.ways = ways;
  return kernel;
}

}  // namespace voxgrad::cuda
