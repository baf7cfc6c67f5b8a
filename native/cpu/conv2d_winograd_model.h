// What Winograd convolution with tiles of slices costs, and the size of its tiles.
#pragma once

#include "conv3d_algorithm.h"

namespace voxgrad::cpu {

struct TilePlan {
  int64_t outputs;  // of a tile along an axis, 2, 3 or 4
  double cost;      // in multiply-adds of one vector register
};

// The cheapest tile size for `problem`, which winograd2dFits. It depends on the problem and the instruction
// set alone. Filters of the forward pass and the input gradient are transformed once for many runs and not
// counted.
TilePlan planWinograd2d(const Conv3dProblem& problem, ConvPass pass);

// What `problem`, which winogradMapsFits, costs with sub-maps as tiles.
double winogradMapsCost(const Conv3dProblem& problem, ConvPass pass);

// As planWinograd2d for `problem`, which winogradSlicesFits; tiles of 3 or 4 outputs. Packing counts unless
// it is done once for many runs.
TilePlan planWinogradSlices(const Conv3dProblem& problem, ConvPass pass, bool packedOnce);

}  // namespace voxgrad::cpu
