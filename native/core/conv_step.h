// The convolution steps of a plan, decoded for every backend.
#pragma once

#include "conv_problem.h"
#include "tensor.h"

namespace voxgrad {

// How closely products of activations and weights are computed: like float32, from operands of 10 bits of
// mantissa, or from activations and packed weights that are bfloat16; sums are float32 in each.
enum class Precision : uint8_t { f32, tf32, bf16 };
constexpr int precisions = 3;

// The attribute `precision` of a step, f32 where it has none; throws Error("ERR_PLAN") for another number.
Precision precisionOf(const Step& step);

// The problem of a step of each kernel. Each throws Error("ERR_PLAN") unless the problem is valid and, but
// for the number of inputs, the bias and packed weights, its tensors fit it.
Conv3dProblem forwardProblem(const Step& step);         // conv3d
Conv3dProblem inputGradientProblem(const Step& step);   // conv3dInputGradient
Conv3dProblem weightGradientProblem(const Step& step);  // conv3dWeightGradient
// Convolutions whose weights a step of its own packs: that step knows the activations, and the other one the
// kernel, by attributes.
Conv3dProblem packedProblem(const Step& step);   // conv3dPacked
Conv3dProblem packingProblem(const Step& step);  // conv3dPackWeights

// Of those two: whether the convolution is an input gradient, and whether packed weights serve many runs.
bool isInputGradient(const Step& step);
bool isPackedOnce(const Step& step);

// The optional third input of all but the weight gradient; null where there is none.
const float* biasOf(const Step& step);
// Throws Error("ERR_PLAN") unless a bias that is there has one number for every channel of the output.
void checkBias(const Step& step);

}  // namespace voxgrad
