// Convolution on the CPU: forward, input gradient, weight gradient.
//
// Tensors and letters are those of Conv3dProblem, which must have passed validate(). Buffers need float
// alignment, workspaces 64 bytes; a workspace may be null where its size is 0 and holds nothing between
// calls. Results have the same bits for every thread count and every call on one instruction set. A NaN or
// infinity in a source may also mark voxels up to three further along an axis than its receptive field, times
// the dilation.
#pragma once

#include <cstddef>

#include "../core/conv_problem.h"

namespace voxgrad::cpu {

// y = conv(x, w) + bias; bias [K] may be null.
size_t conv3dForwardWorkspace(const Conv3dProblem& problem);
void conv3dForward(const Conv3dProblem& problem, const float* x, const float* w, const float* bias, float* y,
                   void* workspace);

// dx = the transpose of conv applied to dy, + bias; bias [C] may be null. With a bias this is the forward
// pass of a transposed convolution.
size_t conv3dInputGradientWorkspace(const Conv3dProblem& problem);
void conv3dInputGradient(const Conv3dProblem& problem, const float* dy, const float* w, const float* bias,
                         float* dx, void* workspace);

// dw[k, r, s, t, c] = sum over voxels of x * dy; overwrites dw.
size_t conv3dWeightGradientWorkspace(const Conv3dProblem& problem);
void conv3dWeightGradient(const Conv3dProblem& problem, const float* x, const float* dy, float* dw,
                          void* workspace);

}  // namespace voxgrad::cpu
