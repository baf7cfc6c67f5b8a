// Convolution on the CPU: forward, input gradient, weight gradient.
//
// Tensors and letters are those of Conv3dProblem, which must have passed validate(). Buffers need float
// alignment, packed weights and workspaces 64 bytes; a workspace may be null where its size is 0 and holds
// nothing between calls. Results have the same bits for every thread count and every call on one instruction
// set. A NaN or infinity in a source may also mark voxels up to three further along an axis than its
// receptive field, times the dilation, or seven with stride 2.
#pragma once

#include <memory>

#include "../core/conv_problem.h"
#include "convolution.h"

namespace voxgrad::cpu {

// Forward: y = conv(x, w) + bias, bias [K]. Input gradient: dx = the transpose of conv applied to dy, + bias
// [C]; with a bias this is the forward pass of a transposed convolution. `packedOnce` says that the packed
// weights serve many runs, so that packing them may take its time.
std::unique_ptr<Convolution> makeConvolution(const Conv3dProblem& problem, bool inputGradient,
                                             bool packedOnce = false);

// Length of the weights that `run` of a convolution takes.
int64_t weightFloats(const Convolution& convolution, const Conv3dProblem& problem);

// A convolution that packs its weights for this one call, in its workspace.
size_t packAndRunWorkspace(const Convolution& convolution);
void packAndRun(const Convolution& convolution, const float* source, const float* w, const float* bias,
                float* output, void* workspace);

// dw[k, r, s, t, c] = sum over voxels of x * dy.
std::unique_ptr<ConvolutionWeightGradient> makeWeightGradient(const Conv3dProblem& problem);

}  // namespace voxgrad::cpu
