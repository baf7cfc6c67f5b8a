// The convolution steps of a plan, decoded for every backend.
#pragma once

#include <vector>

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

// The branches of an aspp step as convolutions of their own, y being their part of the joined result: those
// of `asppPacked`, whose inputs are the source and each branch's packed weights, and those that
// `asppWeightGradient` and `asppWeightGradients` make the gradients of, whose last inputs are x and dy;
// before them come, of the second, the gradients of all branches but the first. `adds` is not set.
struct AsppBranch {
  Conv3dProblem problem;
  int64_t channel;  // the first one of its part
};
std::vector<AsppBranch> packedAsppBranches(const Step& step);
std::vector<AsppBranch> asppGradientBranches(const Step& step);

// Of steps with packed weights: whether the convolution is an input gradient, and whether packed weights
// serve many runs.
bool isInputGradient(const Step& step);
bool isPackedOnce(const Step& step);

// The optional third input of all but the weight gradient; null where there is none.
const float* biasOf(const Step& step);
// Throws Error("ERR_PLAN") unless a bias that is there has one number for every channel of the output.
void checkBias(const Step& step);

}  // namespace voxgrad
