// The gradient of a normalisation in two passes, that of a ReLU behind it included: whether the ReLU is open
// is computed again from the input, with the arithmetic of norm.cc.
#include <cmath>

#include "clones.h"
#include "isa.h"
#include "kernels.h"
#include "math.h"
#include "norm.h"

namespace voxgrad::cpu {

// Checks the inputs from `own` on, gamma and beta, which a ReLU adds.
static bool checkRelu(const Step& step, size_t inputs, std::initializer_list<size_t> own, int64_t channels) {
  const bool relu = step.attributes.flag("relu");
  expectInputs(step, relu ? inputs + own.size() : inputs, relu ? inputs + own.size() : inputs);
  if (relu)
    for (size_t i : own) {
      expectDType(step, step.inputs[i], DType::f32);
      expectCount(step, step.inputs[i], channels);
    }
  return relu;
}

// Inputs: x, moments, dy, and gamma and beta where a ReLU follows.
static size_t prepareGradientSums(const Step& step) {
  expectInputs(step, 3, 5);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  checkRelu(step, 3, {3, 4}, sets.channels);
  expectDType(step, step.inputs[2], DType::f32);
  expectSameShape(step, step.inputs[0], step.inputs[2]);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, sets.sets * sets.channels * 2);
  epsilonOf(step);
  return channelSumBytes(Lanes(sets.channels), sets.sets, sets.count, 2) + coefficientBytes<3>(sets);
}

static void runGradientSums(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const bool relu = step.attributes.flag("relu");
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *dy = step.inputs[2].f32();
  float* y = step.output.f32();
  char* behindSums = static_cast<char*>(step.workspace) + channelSumBytes(lanes, sets.sets, sets.count, 2);
  const float* rows =
      spreadCoefficients<3>(sets, lanes, behindSums, [&](int64_t set, int64_t c, float* values) {
        const float* own = sets.momentsOf(moments, set, c);
        values[0] = own[0];
        values[1] = relu ? scaleOf(step.inputs[3].f32()[c], own, epsilon) : 0;
        values[2] = relu ? step.inputs[4].f32()[c] : 0;
      });
  const int64_t width = lanes.width;
  channelSums<2>(
      lanes, sets.sets, sets.count, step.workspace,
      [&](int64_t begin, int64_t count, double* sums) {
        const float* row = rows + begin / sets.count * 3 * width;
        const NormRows own = {row, relu ? row + width : nullptr, relu ? row + 2 * width : nullptr};
        sumKernels().gradients(x + begin, dy + begin, count, width, own, sums);
      },
      [&](int64_t set, const double* totals) {
        for (int64_t c = 0; c < sets.channels; c++) {
          float* own = y + (set * sets.channels + c) * 2;
          own[0] = static_cast<float>(totals[c]);
          own[1] =
              static_cast<float>(totals[width + c] / std::sqrt(sets.momentsOf(moments, set, c)[1] + epsilon));
        }
      });
}

static size_t prepareParameterGradient(const Step& step) {
  expectInputs(step, 1, 1);
  const Tensor& sums = step.inputs[0];
  expectDType(step, sums, DType::f32);
  expectDType(step, step.output, DType::f32);
  expectRank(step, sums, 3);
  if (sums.shape[2] != 2) refuse(step, "the sums must be [sets, C, 2]");
  expectCount(step, step.output, sums.shape[1]);
  const int64_t which = step.attributes.integer("which");
  if (which != 0 && which != 1) refuse(step, "which must be 0 or 1");
  return 0;
}

static void runParameterGradient(const Step& step) {
  const int64_t which = step.attributes.integer("which");
  const int64_t sets = step.inputs[0].shape[0], channels = step.inputs[0].shape[1];
  const float* sums = step.inputs[0].f32();
  float* y = step.output.f32();
  for (int64_t c = 0; c < channels; c++) {
    double total = 0;
    for (int64_t set = 0; set < sets; set++) total += sums[(set * channels + c) * 2 + which];
    y[c] = static_cast<float>(total);
  }
}

// Elements of a chunk, and a row of lanes of each coefficient: with g the gradient behind the ReLU,
// dx = g ofGradient + ((x - mean) ofInput + constant). dx may be dy.
struct InputGradient {
  const float *x, *dy;
  int64_t count, width;
  const float *mean, *ofGradient, *ofInput, *constant, *shift;
  float* dx;
};

template <bool batch, bool relu>
VOXGRAD_INLINE void differentiate(const InputGradient& a) {
  const int64_t width = a.width;
  const float *x = a.x, *dy = a.dy;
  const float* __restrict mean = a.mean, * __restrict ofGradient = a.ofGradient, * __restrict ofInput = a.ofInput, * __restrict constant = a.constant, * __restrict shift = a.shift;
  float* dx = a.dx;
  for (int64_t i = 0; i < a.count; i += width) {
    const int64_t n = a.count - i < width ? a.count - i : width;
    VOXGRAD_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
      float g = dy[i + j];
      if (relu) g = (x[i + j] - mean[j]) * ofGradient[j] + shift[j] > 0 ? g : 0.0f;
      g *= ofGradient[j];
      if (batch) g += (x[i + j] - mean[j]) * ofInput[j] + constant[j];
      dx[i + j] = g;
    }
  }
}

VOXGRAD_CLONES static void ofConstants(const InputGradient& a) { differentiate<false, false>(a); }
VOXGRAD_CLONES static void ofConstantsRelu(const InputGradient& a) { differentiate<false, true>(a); }
VOXGRAD_CLONES static void ofBatch(const InputGradient& a) { differentiate<true, false>(a); }
VOXGRAD_CLONES static void ofBatchRelu(const InputGradient& a) { differentiate<true, true>(a); }

// Inputs: x, moments, gamma, sums, dy, and beta where a ReLU follows.
static size_t prepareInputGradient(const Step& step) {
  expectInputs(step, 5, 6);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  checkRelu(step, 5, {5}, sets.channels);
  for (size_t i : {2, 3, 4}) expectDType(step, step.inputs[i], DType::f32);
  expectCount(step, step.inputs[2], sets.channels);
  expectCount(step, step.inputs[3], sets.sets * sets.channels * 2);
  expectSameShape(step, step.inputs[0], step.inputs[4]);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  epsilonOf(step);
  step.attributes.flag("batch");
  return coefficientBytes<5>(sets);
}

static void runInputGradient(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const bool batch = step.attributes.flag("batch"), relu = step.attributes.flag("relu");
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *gamma = step.inputs[2].f32(),
              *sums = step.inputs[3].f32(), *dy = step.inputs[4].f32();
  float* dx = step.output.f32();
  const int64_t perGroup = sets.channels / sets.groups;
  // With g = gamma dy and xh the normalised input: dx = (g - mean(g) - xh mean(g xh)) / deviation.
  double meanGradient = 0, meanProduct = 0;
  const float* rows =
      spreadCoefficients<5>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        if (c % perGroup == 0) {
          meanGradient = meanProduct = 0;
          for (int64_t k = c; k < c + perGroup; k++) {
            const float* own = sums + (set * sets.channels + k) * 2;
            meanGradient += double(gamma[k]) * own[0] / static_cast<double>(sets.groupCount);
            meanProduct += double(gamma[k]) * own[1] / static_cast<double>(sets.groupCount);
          }
        }
        const float* own = sets.momentsOf(moments, set, c);
        const double inverse = 1 / std::sqrt(own[1] + epsilon);
        values[0] = own[0];
        values[1] = scaleOf(gamma[c], own, epsilon);
        values[2] = static_cast<float>(-inverse * inverse * meanProduct);
        values[3] = static_cast<float>(-inverse * meanGradient);
        values[4] = relu ? step.inputs[5].f32()[c] : 0;
      });
  const auto run = batch ? (relu ? ofBatchRelu : ofBatch) : (relu ? ofConstantsRelu : ofConstants);
  const int64_t width = lanes.width;
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const float* row = rows + set * 5 * width;
    run({x + begin, dy + begin, count, width, row, row + width, row + 2 * width, row + 3 * width,
         row + 4 * width, dx + begin});
  });
}

const KernelTable normGradientKernels = {
    {"normalizeGradientSums", prepareGradientSums, runGradientSums},
    {"normalizeParameterGradient", prepareParameterGradient, runParameterGradient},
    {"normalizeInputGradient", prepareInputGradient, runInputGradient},
};

}  // namespace voxgrad::cpu
