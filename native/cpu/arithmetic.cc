// Elementwise arithmetic with one operand that may be a scalar, sums in a fixed order, and fills.
#include <algorithm>

#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

static size_t prepareBinary(const Step& step) {
  expectInputs(step, 2, 2);
  for (const Tensor& input : step.inputs) expectDType(step, input, DType::f32);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  if (step.inputs[1].rank != 0) expectSameShape(step, step.inputs[1], step.output);
  return 0;
}

template <class F>
static void runBinary(const Step& step, F f) {
  const float* a = step.inputs[0].f32();
  const float* b = step.inputs[1].f32();
  float* y = step.output.f32();
  if (step.inputs[1].rank == 0 && step.output.rank != 0) {
    const float scalar = b[0];
    parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) y[i] = f(a[i], scalar);
    });
  } else {
    parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) y[i] = f(a[i], b[i]);
    });
  }
}

static void runAdd(const Step& step) {
  runBinary(step, [](float a, float b) { return a + b; });
}

static void runMul(const Step& step) {
  runBinary(step, [](float a, float b) { return a * b; });
}

static size_t prepareUnary(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static size_t prepareScale(const Step& step) {
  step.attributes.number("factor");
  return prepareUnary(step);
}

static void runScale(const Step& step) {
  const float factor = static_cast<float>(step.attributes.number("factor"));
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = x[i] * factor;
  });
}

static size_t prepareSum(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, 1);
  return reductionBytes(step.inputs[0].count());
}

static void runSum(const Step& step) {
  const float* x = step.inputs[0].f32();
  step.output.f32()[0] = static_cast<float>(
      orderedSum(step.inputs[0].count(), step.workspace, [=](int64_t i) { return double(x[i]); }));
}

static size_t prepareFill(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.inputs[0], 1);
  return 0;
}

static void fillWith(const Tensor& output, float value) {
  float* y = output.f32();
  parallelRange(output.count(), [=](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
}

static void runFill(const Step& step) { fillWith(step.output, step.inputs[0].f32()[0]); }

static size_t prepareConstant(const Step& step) {
  expectInputs(step, 0, 0);
  expectDType(step, step.output, DType::f32);
  step.attributes.number("value");
  return 0;
}

static void runConstant(const Step& step) {
  fillWith(step.output, static_cast<float>(step.attributes.number("value")));
}

const KernelTable arithmeticKernels = {
    {"add", prepareBinary, runAdd},    {"mul", prepareBinary, runMul},
    {"scale", prepareScale, runScale}, {"sum", prepareSum, runSum},
    {"fill", prepareFill, runFill},    {"constant", prepareConstant, runConstant},
};

}  // namespace voxgrad::cpu
