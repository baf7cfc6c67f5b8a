// The weight gradient without strides and of few channels, by blocks of voxels: what a block reads of x, its
// halo included, is brought to shared memory once for all taps.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

// Whether the halo saves enough reads for that, and fits.
bool suitsHaloWeightGradient(const Conv3dProblem& problem, Precision precision);
// The name of what `runHaloWeightGradient` launches.
const char* haloWeightGradientName(const Conv3dProblem& problem, Precision precision);
size_t haloWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision);
// Needs x and dy to be aligned to 16 bytes. `norm` says how x is normalised as it is loaded.
void runHaloWeightGradient(const GradientOperands& operands, const SourceNorm& norm = {});

}  // namespace voxgrad::cuda
