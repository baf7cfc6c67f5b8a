// The optimizer's updates and the moving average of a teacher; each may overwrite its first input.
#include <algorithm>
#include <vector>

#include "../core/sgd_step.h"
#include "clones.h"
#include "elementwise.h"
#include "kernels.h"
#include "math.h"

namespace voxgrad::cpu {

VOXGRAD_CLONES static void velocity(const float* v, const float* g, const float* p, float* y, int64_t count,
                                    float momentum, float decay) {
  VOXGRAD_INDEPENDENT
  for (int64_t i = 0; i < count; i++) y[i] = momentum * v[i] + (g[i] + decay * p[i]);
}

VOXGRAD_CLONES static void descend(const float* p, const float* v, float* y, int64_t count, float rate) {
  VOXGRAD_INDEPENDENT
  for (int64_t i = 0; i < count; i++) y[i] = p[i] - rate * v[i];
}

VOXGRAD_CLONES static void descendNesterov(const float* p, const float* v, const float* g, float* y,
                                           int64_t count, float rate, float momentum, float decay) {
  VOXGRAD_INDEPENDENT
  for (int64_t i = 0; i < count; i++) y[i] = p[i] - rate * ((g[i] + decay * p[i]) + momentum * v[i]);
}

VOXGRAD_CLONES static void average(const float* a, const float* x, float* y, int64_t count, float decay,
                                   float rest) {
  VOXGRAD_INDEPENDENT
  for (int64_t i = 0; i < count; i++) y[i] = decay * a[i] + rest * x[i];
}

static float attribute(const Step& step, const char* name) {
  return static_cast<float>(step.attributes.number(name));
}

// All inputs have the type of the output but the one at `scalar`, which is a float scalar.
static void checkUpdate(const Step& step, size_t scalar) {
  expectDType(step, step.output, DType::f32);
  for (size_t i = 0; i < step.inputs.size(); i++) {
    expectDType(step, step.inputs[i], DType::f32);
    if (i == scalar)
      expectCount(step, step.inputs[i], 1);
    else
      expectSameShape(step, step.inputs[i], step.output);
  }
}

static size_t prepareVelocity(const Step& step) {
  expectInputs(step, 3, 3);
  checkUpdate(step, 3);
  attribute(step, "momentum");
  attribute(step, "weightDecay");
  return 0;
}

static void runVelocity(const Step& step) {
  const float momentum = attribute(step, "momentum"), decay = attribute(step, "weightDecay");
  const float *v = step.inputs[0].f32(), *g = step.inputs[1].f32(), *p = step.inputs[2].f32();
  float* y = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    velocity(v + begin, g + begin, p + begin, y + begin, end - begin, momentum, decay);
  });
}

static size_t prepareStep(const Step& step) {
  const size_t inputs = step.attributes.flag("nesterov") ? 4 : 3;
  expectInputs(step, inputs, inputs);
  checkUpdate(step, 2);
  attribute(step, "momentum");
  attribute(step, "weightDecay");
  return 0;
}

static void runStep(const Step& step) {
  const float momentum = attribute(step, "momentum"), decay = attribute(step, "weightDecay");
  const float *p = step.inputs[0].f32(), *v = step.inputs[1].f32(), rate = step.inputs[2].f32()[0];
  const float* g = step.attributes.flag("nesterov") ? step.inputs[3].f32() : nullptr;
  float* y = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    if (g == nullptr)
      descend(p + begin, v + begin, y + begin, end - begin, rate);
    else
      descendNesterov(p + begin, v + begin, g + begin, y + begin, end - begin, rate, momentum, decay);
  });
}

// Velocities and parameters in one pass over many of them.
static size_t prepareSgd(const Step& step) {
  const SgdStep sgd(step);
  sgd.check();
  if (!sgd.copies().empty()) refuse(step, "packed weights are written by steps of their own");
  return 0;
}

static void runSgd(const Step& step) {
  const SgdStep sgd(step);
  const float momentum = attribute(step, "momentum"), decay = attribute(step, "weightDecay");
  const bool nesterov = step.attributes.flag("nesterov");
  const float rate = sgd.rate().f32()[0];
  // The first chunk of each parameter.
  std::vector<int64_t> chunks{0};
  for (size_t i = 0; i < sgd.count(); i++)
    chunks.push_back(chunks.back() + (sgd.parameter(i).count() + chunkElements - 1) / chunkElements);
  // A chunk stays in the cache between the two loops, which are those of the ops that this step stands for.
  parallelFor(chunks.back(), [&](int64_t chunk) {
    const size_t i = std::upper_bound(chunks.begin(), chunks.end(), chunk) - chunks.begin() - 1;
    const int64_t begin = (chunk - chunks[i]) * chunkElements;
    const int64_t count = std::min(sgd.parameter(i).count() - begin, chunkElements);
    const float *p = sgd.parameter(i).f32() + begin, *g = sgd.gradient(i).f32() + begin;
    float *v = sgd.velocity(i).f32() + begin, *y = sgd.next(i).f32() + begin;
    velocity(v, g, p, v, count, momentum, decay);
    if (nesterov)
      descendNesterov(p, v, g, y, count, rate, momentum, decay);
    else
      descend(p, v, y, count, rate);
  });
}

static size_t prepareEma(const Step& step) {
  expectInputs(step, 2, 3);
  checkUpdate(step, 2);
  attribute(step, "decay");
  return 0;
}

static void runEma(const Step& step) {
  const double decay = step.inputs.size() > 2 ? step.inputs[2].f32()[0] : step.attributes.number("decay");
  const float *a = step.inputs[0].f32(), *x = step.inputs[1].f32();
  const float kept = static_cast<float>(decay), rest = static_cast<float>(1 - decay);
  float* y = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    average(a + begin, x + begin, y + begin, end - begin, kept, rest);
  });
}

const KernelTable updateKernels = {
    {"sgdVelocity", prepareVelocity, runVelocity},
    {"sgdStep", prepareStep, runStep},
    {"sgd", prepareSgd, runSgd, nullptr, nullptr, updatedBySgd},
    {"ema", prepareEma, runEma},
};

}  // namespace voxgrad::cpu
