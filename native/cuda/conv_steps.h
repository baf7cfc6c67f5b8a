// What the steps of convolutions have in common. They are in conv.cu, conv_packed.cu and
// conv_weight_gradient_steps.cu.
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

// Of a step whose source, input number `source`, is normalised as it is loaded: moments, gamma and beta
// follow it. The step as it is without them, and what they say. `checkNorm` throws Error("ERR_PLAN") unless
// they fit.
constexpr size_t normInputs = 3;
Step withoutNorm(const Step& step, size_t source);
void checkNorm(const Step& step, size_t source);
SourceNorm normOf(const Step& step, size_t source);

// A kernel that knows several ways of computing a step.
inline Kernel named(Kernel kernel, const char* (*algorithm)(const Step&),
                    std::vector<std::string> (*ways)(const Step&)) {
  kernel.algorithm = algorithm;
  kernel.ways = ways;
  return kernel;
}

}  // namespace voxgrad::cuda
