// The affine map of a normalisation, alone or with the ReLU and the addition that follow it, in one pass.
#include "norm.h"

#include "clones.h"
#include "kernels.h"
#include "math.h"

namespace voxgrad::cpu {

// What follows the affine map.
enum class Then { nothing, relu, reluAdd, addRelu };

// Elements of a chunk, and a row of lanes of each coefficient. y may be x, and may be the residual.
struct Affine {
  const float *x, *residual;
  int64_t count, width;
  const float *mean, *scale, *shift;
  float* y;
};

template <Then then>
VOXGRAD_INLINE void apply(const Affine& a) {
  const int64_t width = a.width;
  const float *x = a.x, *residual = a.residual;
  const float* __restrict mean = a.mean, * __restrict scale = a.scale, * __restrict shift = a.shift;
  float* y = a.y;
  for (int64_t i = 0; i < a.count; i += width) {
    const int64_t n = a.count - i < width ? a.count - i : width;
    VOXGRAD_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
      float value = (x[i + j] - mean[j]) * scale[j] + shift[j];
      if (then == Then::addRelu) value += residual[i + j];
      if (then != Then::nothing) value = value < 0 ? 0.0f : value;
      if (then == Then::reluAdd) value += residual[i + j];
      y[i + j] = value;
    }
  }
}

VOXGRAD_CLONES static void applyAlone(const Affine& a) { apply<Then::nothing>(a); }
VOXGRAD_CLONES static void applyRelu(const Affine& a) { apply<Then::relu>(a); }
VOXGRAD_CLONES static void applyReluAdd(const Affine& a) { apply<Then::reluAdd>(a); }
VOXGRAD_CLONES static void applyAddRelu(const Affine& a) { apply<Then::addRelu>(a); }

// The elements of a chunk of two activations, each with its coefficients: `a` has the result.
VOXGRAD_CLONES static void applySum(const Affine& a, const Affine& b) {
  const int64_t width = a.width;
  const float *x = a.x, *z = b.x;
  const float* __restrict mean = a.mean, * __restrict scale = a.scale, * __restrict shift = a.shift;
  const float* __restrict mean2 = b.mean, * __restrict scale2 = b.scale, * __restrict shift2 = b.shift;
  float* y = a.y;
  for (int64_t i = 0; i < a.count; i += width) {
    const int64_t n = a.count - i < width ? a.count - i : width;
    VOXGRAD_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
      const float first = (x[i + j] - mean[j]) * scale[j] + shift[j];
      const float second = (z[i + j] - mean2[j]) * scale2[j] + shift2[j];
      y[i + j] = (first < 0 ? 0.0f : first) + (second < 0 ? 0.0f : second);
    }
  }
}

// Checks x, moments, gamma and beta, which are the inputs from `first` on.
static Sets checkedSets(const Step& step, size_t first) {
  const Sets sets(step, step.inputs[first], step.inputs[first + 1]);
  for (size_t i : {first + 2, first + 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], sets.channels);
  }
  expectSameShape(step, step.inputs[first], step.output);
  return sets;
}

// Inputs: x, moments, gamma, beta, and what is added.
static size_t prepare(const Step& step, size_t inputs) {
  expectInputs(step, inputs, inputs);
  const Sets sets = checkedSets(step, 0);
  if (inputs > 4) {
    expectDType(step, step.inputs[4], DType::f32);
    expectSameShape(step, step.inputs[4], step.output);
  }
  expectDType(step, step.output, DType::f32);
  epsilonOf(step);
  return coefficientBytes<3>(sets);
}

static size_t prepareAlone(const Step& step) { return prepare(step, 4); }
static size_t prepareWithResidual(const Step& step) { return prepare(step, 5); }

static size_t prepareSum(const Step& step) {
  expectInputs(step, 8, 8);
  const Sets sets = checkedSets(step, 0), others = checkedSets(step, 4);
  if (sets.sets != others.sets) refuse(step, "the moments are not of as many samples");
  expectDType(step, step.output, DType::f32);
  epsilonOf(step);
  return coefficientBytes<6>(sets);
}

// The coefficients of a channel, from the inputs that begin with `first`.
static void putCoefficients(const Step& step, size_t first, const Sets& sets, double epsilon, int64_t set,
                            int64_t channel, float* values) {
  const float* own = sets.momentsOf(step.inputs[first + 1].f32(), set, channel);
  values[0] = own[0];
  values[1] = scaleOf(step.inputs[first + 2].f32()[channel], own, epsilon);
  values[2] = step.inputs[first + 3].f32()[channel];
}

template <void (*applyChunk)(const Affine&)>
static void run(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const float *x = step.inputs[0].f32(), *residual = step.inputs.size() > 4 ? step.inputs[4].f32() : x;
  float* y = step.output.f32();
  const float* rows =
      spreadCoefficients<3>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        putCoefficients(step, 0, sets, epsilon, set, c, values);
      });
  const int64_t width = lanes.width;
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const float* row = rows + set * 3 * width;
    applyChunk({x + begin, residual + begin, count, width, row, row + width, row + 2 * width, y + begin});
  });
}

static void runSum(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]), others(step, step.inputs[4], step.inputs[5]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const float *a = step.inputs[0].f32(), *b = step.inputs[4].f32();
  float* y = step.output.f32();
  const float* rows =
      spreadCoefficients<6>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        putCoefficients(step, 0, sets, epsilon, set, c, values);
        putCoefficients(step, 4, others, epsilon, set, c, values + 3);
      });
  const int64_t width = lanes.width;
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const float* row = rows + set * 6 * width;
    applySum({a + begin, nullptr, count, width, row, row + width, row + 2 * width, y + begin},
             {b + begin, nullptr, count, width, row + 3 * width, row + 4 * width, row + 5 * width, nullptr});
  });
}

const KernelTable normKernels = {
    {"normalize", prepareAlone, run<applyAlone>},
    {"normalizeRelu", prepareAlone, run<applyRelu>},
    {"normalizeReluAdd", prepareWithResidual, run<applyReluAdd>},
    {"normalizeReluSum", prepareSum, runSum},
    {"normalizeAddRelu", prepareWithResidual, run<applyAddRelu>},
};

}  // namespace voxgrad::cpu
