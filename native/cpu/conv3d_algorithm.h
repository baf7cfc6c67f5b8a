// Which algorithm computes a convolution.
#pragma once

#include "../core/conv_problem.h"

namespace voxgrad::cpu {

enum class ConvPass { forward, inputGradient, weightGradient };
enum class ConvAlgorithm { direct, winograd };

// The faster algorithm by what was measured, packing of the weights included unless it is done once for many
// runs. It depends on the problem and the instruction set, never on the number of threads.
// VOXGRAD_CONV=direct|winograd overrides it where the algorithm can do the problem; it is read once per
// process, and another value throws Error.
ConvAlgorithm chooseAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

// The same without the override.
ConvAlgorithm modelledAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

// How chooseAlgorithm's choice is called: "direct", or "winograd" with what it computes: "winograd
// F(4x4,3x3)".
const char* algorithmName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

}  // namespace voxgrad::cpu
