// Which algorithm computes a convolution.
#pragma once

#include "../core/conv_problem.h"

namespace voxgrad::cpu {

enum class ConvPass { forward, inputGradient, weightGradient };
// Winograd convolution with tiles of 2x2x2 outputs of a 3x3x3 kernel, with tiles of outputs of a slice that
// planWinogradSlices sizes, with tiles of 4x4 of them and stride 2, of a 1x3x3 kernel with tiles that
// planWinograd2d sizes, of the same with small sub-maps as tiles, with tiles of four outputs of a row for
// stems, or of a column for a few output channels. `amx` is the direct algorithm on the matrix unit.
enum class ConvAlgorithm {
  direct,
  winograd3d,
  winogradSlices,
  winogradStrided,
  winograd2d,
  winogradMaps,
  winogradRows,
  winogradColumns,
  amx
};

// The faster algorithm by what was measured, packing of the weights included unless it is done once for many
// runs. It depends on the problem and the instruction set, never on the number of threads.
// VOXGRAD_CONV=direct|winograd|amx overrides it where the algorithm can do the problem; it is read once per
// process, and another value throws Error.
ConvAlgorithm chooseAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

// How chooseAlgorithm's choice is called: "direct", or "winograd" with what it computes: "winograd
// F(4x4,3x3)".
const char* algorithmName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

// The same without the override.
const char* modelledName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce = false);

}  // namespace voxgrad::cpu
