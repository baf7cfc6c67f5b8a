// The convolution steps of a plan: decoded, checked, and handed to the kernels.
#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv3d_geometry.h"
#include "kernels.h"
#include "norm.h"

namespace voxgrad::cpu {

// Decodes the attributes that all steps of a convolution have and checks the whole problem.
static Conv3dProblem finish(const Step& step, Conv3dProblem problem) {
  problem.groups = step.attributes.integer("groups");
  const auto stride = step.attributes.integers("stride", 3);
  const auto padding = step.attributes.integers("padding", 3);
  const auto dilation = step.attributes.integers("dilation", 3);
  for (int axis = 0; axis < 3; ++axis) {
    problem.stride[axis] = stride[axis];
    problem.pad[axis] = padding[axis];
    problem.dilation[axis] = dilation[axis];
  }
  std::string why;
  if (!problem.validate(&why)) refuse(step, why);
  return problem;
}

static void setActivations(const Step& step, const Tensor& x, const Tensor& y, Conv3dProblem* problem) {
  for (const Tensor* tensor : {&x, &y}) {
    expectDType(step, *tensor, DType::f32);
    expectRank(step, *tensor, 5);
  }
  problem->N = x.shape[0];
  problem->D = x.shape[1];
  problem->H = x.shape[2];
  problem->W = x.shape[3];
  problem->C = x.shape[4];
  problem->Z = y.shape[1];
  problem->P = y.shape[2];
  problem->Q = y.shape[3];
  problem->K = y.shape[4];
  if (y.shape[0] != problem->N) refuse(step, "batches do not match");
}

// `x`, `w` and `y` are the tensors in those places of the convolution, whichever of them is the output.
static Conv3dProblem problemOf(const Step& step, const Tensor& x, const Tensor& w, const Tensor& y) {
  Conv3dProblem problem;
  setActivations(step, x, y, &problem);
  expectDType(step, w, DType::f32);
  expectRank(step, w, 5);
  problem.R = w.shape[1];
  problem.S = w.shape[2];
  problem.T = w.shape[3];
  problem = finish(step, problem);
  if (w.shape[0] != problem.K || w.shape[4] != problem.C / problem.groups)
    refuse(step, "batch or channels do not match");
  return problem;
}

static const float* biasOf(const Step& step) {
  return step.inputs.size() > 2 ? step.inputs[2].f32() : nullptr;
}

static void checkBias(const Step& step) {
  if (step.inputs.size() < 3) return;
  expectDType(step, step.inputs[2], DType::f32);
  expectCount(step, step.inputs[2], step.output.channels());
}

static Conv3dProblem forwardProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.inputs[1], step.output);
}

static Conv3dProblem inputGradientProblem(const Step& step) {
  return problemOf(step, step.output, step.inputs[1], step.inputs[0]);
}

static Conv3dProblem weightGradientProblem(const Step& step) {
  return problemOf(step, step.inputs[0], step.output, step.inputs[1]);
}

template <bool inputGradient>
static Conv3dProblem problemOfStep(const Step& step) {
  return inputGradient ? inputGradientProblem(step) : forwardProblem(step);
}

template <bool inputGradient>
static size_t prepareConvolution(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  return packAndRunWorkspace(*makeConvolution(problemOfStep<inputGradient>(step), inputGradient));
}

template <bool inputGradient>
static void runConvolution(const Step& step) {
  packAndRun(*makeConvolution(problemOfStep<inputGradient>(step), inputGradient), step.inputs[0].f32(),
             step.inputs[1].f32(), biasOf(step), step.output.f32(), step.workspace);
}

// The same with weights that a step of its own has packed: that step knows the activations, and this one the
// kernel, by attributes.
static bool isInputGradient(const Step& step) { return step.attributes.flag("inputGradient"); }
static bool isPackedOnce(const Step& step) { return step.attributes.flag("packedOnce"); }

static std::unique_ptr<Convolution> convolutionOf(const Step& step, const Conv3dProblem& problem) {
  return makeConvolution(problem, isInputGradient(step), isPackedOnce(step));
}

static Conv3dProblem packedProblem(const Step& step) {
  const bool gradient = isInputGradient(step);
  Conv3dProblem problem;
  setActivations(step, gradient ? step.output : step.inputs[0], gradient ? step.inputs[0] : step.output,
                 &problem);
  const auto kernel = step.attributes.integers("kernel", 3);
  problem.R = kernel[0];
  problem.S = kernel[1];
  problem.T = kernel[2];
  return finish(step, problem);
}

static size_t preparePacked(const Step& step) {
  expectInputs(step, 2, 3);
  checkBias(step);
  const auto convolution = convolutionOf(step, packedProblem(step));
  expectDType(step, step.inputs[1], DType::f32);
  expectCount(step, step.inputs[1], static_cast<int64_t>(convolution->packedFloats()));
  return convolution->workspace();
}

static void runPacked(const Step& step) {
  convolutionOf(step, packedProblem(step))
      ->run(step.inputs[0].f32(), step.inputs[1].f32(), biasOf(step), step.output.f32(), step.workspace);
}

static Conv3dProblem packingProblem(const Step& step) {
  const Tensor& w = step.inputs[0];
  expectDType(step, w, DType::f32);
  expectRank(step, w, 5);
  const auto x = step.attributes.integers("input", 4), y = step.attributes.integers("output", 3);
  Conv3dProblem problem;
  problem.N = x[0];
  problem.D = x[1];
  problem.H = x[2];
  problem.W = x[3];
  problem.K = w.shape[0];
  problem.R = w.shape[1];
  problem.S = w.shape[2];
  problem.T = w.shape[3];
  problem.Z = y[0];
  problem.P = y[1];
  problem.Q = y[2];
  const int64_t groups = step.attributes.integer("groups");
  if (groups < 1 || __builtin_mul_overflow(w.shape[4], groups, &problem.C))
    refuse(step, "groups are not valid");
  return finish(step, problem);
}

static int64_t packedFloatsOf(const Step& step) {
  expectInputs(step, 1, 1);
  return static_cast<int64_t>(convolutionOf(step, packingProblem(step))->packedFloats());
}

static size_t preparePacking(const Step& step) {
  const int64_t floats = packedFloatsOf(step);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, floats);
  return 0;
}

static void runPacking(const Step& step) {
  convolutionOf(step, packingProblem(step))->pack(step.inputs[0].f32(), step.output.f32());
}

static size_t prepareWeightGradient(const Step& step) {
  expectInputs(step, 2, 2);
  return makeWeightGradient(weightGradientProblem(step))->workspace();
}

static void runWeightGradient(const Step& step) {
  makeWeightGradient(weightGradientProblem(step))
      ->run(step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32(), step.workspace);
}

// The same of a source that is normalised as it is loaded: moments, gamma and beta follow it among the
// inputs.
static Step withoutNorm(const Step& step) {
  Step bare = step;
  bare.inputs.erase(bare.inputs.begin() + 1, bare.inputs.begin() + 4);
  return bare;
}

static int64_t coefficientFloats(const Step& step) { return divideUp(step.inputs[0].channels(), 16) * 16; }

static size_t normBytes(const Step& step) {
  return static_cast<size_t>(3 * coefficientFloats(step)) * sizeof(float);
}

static void checkNorm(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  if (sets.sets != 1) refuse(step, "samples have moments of their own");
  for (size_t i : {2, 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], sets.channels);
  }
  epsilonOf(step);
}

// Coefficients in the first normBytes(step) of the workspace.
static SourceNorm normOf(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const double epsilon = epsilonOf(step);
  const int64_t floats = coefficientFloats(step);
  float *const mean = static_cast<float*>(step.workspace), *const scale = mean + floats,
               *const shift = scale + floats;
  std::fill_n(mean, 3 * floats, 0.0f);
  for (int64_t c = 0; c < sets.channels; ++c) {
    const float* const own = sets.momentsOf(step.inputs[1].f32(), 0, c);
    mean[c] = own[0];
    scale[c] = scaleOf(step.inputs[2].f32()[c], own, epsilon);
    shift[c] = step.inputs[3].f32()[c];
  }
  return {mean, scale, shift};
}

static void* workspaceBehindNorm(const Step& step) {
  return static_cast<char*>(step.workspace) + normBytes(step);
}

static bool packedNormalizes(const Step& step) {
  const auto convolution = convolutionOf(step, packedProblem(step));
  return dynamic_cast<const NormalizingConvolution*>(convolution.get());
}

static size_t prepareNormalizedPacked(const Step& step) {
  expectInputs(step, 5, 6);
  checkNorm(step);
  const Step bare = withoutNorm(step);
  const size_t bytes = preparePacked(bare);
  if (!packedNormalizes(bare)) refuse(step, "its algorithm does not normalise");
  return normBytes(step) + bytes;
}

static void runNormalizedPacked(const Step& step) {
  const Step bare = withoutNorm(step);
  const auto convolution = convolutionOf(bare, packedProblem(bare));
  const SourceNorm norm = normOf(step);
  dynamic_cast<const NormalizingConvolution&>(*convolution)
      .run(ConvolutionSource{bare.inputs[0].f32(), &norm}, bare.inputs[1].f32(), biasOf(bare),
           bare.output.f32(), workspaceBehindNorm(step));
}

static bool weightGradientNormalizes(const Step& step) {
  const auto gradient = makeWeightGradient(weightGradientProblem(step));
  return dynamic_cast<const NormalizingWeightGradient*>(gradient.get());
}

static size_t prepareNormalizedWeightGradient(const Step& step) {
  expectInputs(step, 5, 5);
  checkNorm(step);
  const Step bare = withoutNorm(step);
  const size_t bytes = prepareWeightGradient(bare);
  if (!weightGradientNormalizes(bare)) refuse(step, "its algorithm does not normalise");
  return normBytes(step) + bytes;
}

static void runNormalizedWeightGradient(const Step& step) {
  const Step bare = withoutNorm(step);
  const auto gradient = makeWeightGradient(weightGradientProblem(bare));
  const SourceNorm norm = normOf(step);
  dynamic_cast<const NormalizingWeightGradient&>(*gradient).run(
      ConvolutionSource{bare.inputs[0].f32(), &norm}, bare.inputs[1].f32(), bare.output.f32(),
      workspaceBehindNorm(step));
}

template <Conv3dProblem (*problemOfStep)(const Step&), ConvPass pass>
static const char* algorithmOf(const Step& step) {
  return algorithmName(problemOfStep(step), pass);
}

static const char* packedAlgorithmOf(const Step& step) {
  const ConvPass pass = isInputGradient(step) ? ConvPass::inputGradient : ConvPass::forward;
  return algorithmName(packedProblem(step), pass, isPackedOnce(step));
}

const KernelTable convKernels = {
    {"conv3d", prepareConvolution<false>, runConvolution<false>,
     algorithmOf<forwardProblem, ConvPass::forward>},
    {"conv3dInputGradient", prepareConvolution<true>, runConvolution<true>,
     algorithmOf<inputGradientProblem, ConvPass::inputGradient>},
    {"conv3dPacked", preparePacked, runPacked, packedAlgorithmOf, nullptr, -1, packedNormalizes},
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloatsOf},
    {"conv3dWeightGradient", prepareWeightGradient, runWeightGradient,
     algorithmOf<weightGradientProblem, ConvPass::weightGradient>, nullptr, -1, weightGradientNormalizes},
    {"normalizeReluConv3dPacked", prepareNormalizedPacked, runNormalizedPacked,
     [](const Step& step) { return packedAlgorithmOf(withoutNorm(step)); }},
    {"normalizeReluConv3dWeightGradient", prepareNormalizedWeightGradient, runNormalizedWeightGradient,
     [](const Step& step) {
       return algorithmOf<weightGradientProblem, ConvPass::weightGradient>(withoutNorm(step));
     }},
};

}  // namespace voxgrad::cpu
