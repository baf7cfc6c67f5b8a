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

// Inputs: x, moments, gamma, beta, and what is added.
static size_t prepare(const Step& step, size_t inputs) {
  expectInputs(step, inputs, inputs);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  for (size_t i : {2, 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], sets.channels);
  }
  if (inputs > 4) {
    expectDType(step, step.inputs[4], DType::f32);
    expectSameShape(step, step.inputs[4], step.output);
  }
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  epsilonOf(step);
  return coefficientBytes<3>(sets);
}

static size_t prepareAlone(const Step& step) { return prepare(step, 4); }
static size_t prepareWithResidual(const Step& step) { return prepare(step, 5); }

template <void (*applyChunk)(const Affine&)>
static void run(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *gamma = step.inputs[2].f32(),
              *beta = step.inputs[3].f32(), *residual = step.inputs.size() > 4 ? step.inputs[4].f32() : x;
  float* y = step.output.f32();
  const float* rows =
      spreadCoefficients<3>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        const float* own = sets.momentsOf(moments, set, c);
        values[0] = own[0];
        values[1] = scaleOf(gamma[c], own, epsilon);
        values[2] = beta[c];
      });
  const int64_t width = lanes.width;
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const float* row = rows + set * 3 * width;
    applyChunk({x + begin, residual + begin, count, width, row, row + width, row + 2 * width, y + begin});
  });
}

const KernelTable normKernels = {
    {"normalize", prepareAlone, run<applyAlone>},
    {"normalizeRelu", prepareAlone, run<applyRelu>},
    {"normalizeReluAdd", prepareWithResidual, run<applyReluAdd>},
    {"normalizeAddRelu", prepareWithResidual, run<applyAddRelu>},
};

}  // namespace voxgrad::cpu
