// What the algorithms cost that compute a convolution, in multiply-adds of one vector register of `lanes`
// floats.
#pragma once

#include "conv3d_algorithm.h"

namespace voxgrad::cpu {

double directCost(const Conv3dProblem& problem, ConvPass pass, double lanes);

// The others only of problems that they can do. Of weights that are packed for one run packing counts too.
double winogradCost(const Conv3dProblem& problem, ConvPass pass, bool packedOnce, double lanes);
double stridedCost(const Conv3dProblem& problem, ConvPass pass, double lanes);
double amxCost(const Conv3dProblem& problem, ConvPass pass);

}  // namespace voxgrad::cpu
