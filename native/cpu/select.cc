// Comparison of scalars, and the choice between two tensors by a scalar.
#include <cstring>

#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

static size_t prepareLess(const Step& step) {
  expectInputs(step, 2, 2);
  for (const Tensor& input : step.inputs) {
    expectDType(step, input, DType::f32);
    expectCount(step, input, 1);
  }
  expectDType(step, step.output, DType::u8);
  expectCount(step, step.output, 1);
  return 0;
}

static void runLess(const Step& step) {
  step.output.u8()[0] = step.inputs[0].f32()[0] < step.inputs[1].f32()[0];
}

static size_t prepareSelect(const Step& step) {
  expectInputs(step, 3, 3);
  expectDType(step, step.inputs[0], DType::u8);
  expectCount(step, step.inputs[0], 1);
  for (int branch = 1; branch <= 2; branch++) {
    expectDType(step, step.inputs[branch], step.output.dtype);
    expectSameShape(step, step.inputs[branch], step.output);
  }
  return 0;
}

static void runSelect(const Step& step) {
  const Tensor& chosen = step.inputs[step.inputs[0].u8()[0] != 0 ? 1 : 2];
  if (chosen.data == step.output.data) return;
  const uint8_t* from = static_cast<const uint8_t*>(chosen.data);
  uint8_t* to = static_cast<uint8_t*>(step.output.data);
  parallelRange(
      static_cast<int64_t>(step.output.bytes()),
      [=](int64_t begin, int64_t end) {
        std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
      },
      chunkElements * 4);
}

const KernelTable selectKernels = {
    {"less", prepareLess, runLess},
    {"select", prepareSelect, runSelect},
};

}  // namespace voxgrad::cpu
