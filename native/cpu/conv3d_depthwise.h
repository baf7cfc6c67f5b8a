// Convolutions in which every channel is its own group with one filter (C = K = groups).
#pragma once

#include <cstddef>

#include "../core/conv_problem.h"

namespace voxgrad::cpu {

inline bool isDepthwise(const Conv3dProblem& p) { return p.groups > 1 && p.C == p.groups && p.K == p.groups; }

// Same contracts as the functions of conv3d.h.
size_t depthwiseGatherWorkspace(const Conv3dProblem& problem);
void depthwiseGather(const Conv3dProblem& problem, bool inputGradient, const float* source, const float* w,
                     const float* bias, float* output, void* workspace);
void depthwiseWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw);

}  // namespace voxgrad::cpu
