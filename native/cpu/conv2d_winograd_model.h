// What 2-D Winograd convolution costs, and the size of its tiles.
#pragma once

#include "conv3d_algorithm.h"

namespace voxgrad::cpu {

struct Winograd2dPlan {
  int64_t outputs;  // of a tile along an axis, 2 or 4
  double cost;      // in multiply-adds of one vector register
};

// The cheaper tile size for `problem`, which winograd2dFits. It depends on the problem and the instruction
// set alone. Filters of the forward pass and the input gradient are transformed once for many runs and not
// counted.
Winograd2dPlan planWinograd2d(const Conv3dProblem& problem, ConvPass pass);

}  // namespace voxgrad::cpu
