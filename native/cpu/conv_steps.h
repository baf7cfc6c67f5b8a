// The convolution steps of a plan, for those that add something to them. What is checked is in conv.cc.
#pragma once

#include "../core/conv_step.h"
#include "conv3d.h"

namespace voxgrad::cpu {

// Inputs: source, packed weights, perhaps a bias.
size_t preparePacked(const Step& step);
std::unique_ptr<Convolution> packedConvolution(const Step& step);
const char* packedAlgorithmOf(const Step& step);

// Inputs: x and dy.
size_t prepareWeightGradient(const Step& step);
const char* weightGradientAlgorithmOf(const Step& step);

// Whether such a step could normalise its source as it loads it, and that is faster than a pass of its own.
bool packedNormalizes(const Step& step);
bool weightGradientNormalizes(const Step& step);

// Whether a step of packed weights could sum the moments of its output as it stores it.
bool packedSums(const Step& step);

// The step without moments, gamma and beta, which follow the source among the inputs of one that normalises
// it; its coefficients, which come first in the workspace, and what lies behind them.
Step withoutNorm(const Step& step);
size_t prepareNormalizedPacked(const Step& step);
SourceNorm normOf(const Step& step);
void* workspaceBehindNorm(const Step& step);

}  // namespace voxgrad::cpu
