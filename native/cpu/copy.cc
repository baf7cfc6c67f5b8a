// A copy of any element type: how a computed value becomes the next contents of a state. And one that changes
// between floats and bfloat16.
#include <cstring>

#include "../core/bf16.h"
#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

static size_t prepareCopy(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], step.output.dtype);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static void runCopy(const Step& step) {
  const size_t width = bytesOf(step.output.dtype);
  const uint8_t* from = step.inputs[0].u8();
  uint8_t* to = step.output.u8();
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    std::memcpy(to + begin * width, from + begin * width, (end - begin) * width);
  });
}

static size_t prepareCast(const Step& step) {
  expectInputs(step, 1, 1);
  const bool narrows = step.output.dtype == DType::bf16;
  expectDType(step, step.output, narrows ? DType::bf16 : DType::f32);
  expectDType(step, step.inputs[0], narrows ? DType::f32 : DType::bf16);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static void runCast(const Step& step) {
  const void* from = step.inputs[0].data;
  void* to = step.output.data;
  const bool narrows = step.output.dtype == DType::bf16;
  parallelRange(step.output.count(), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      if (narrows)
        static_cast<uint16_t*>(to)[i] = bf16Of(static_cast<const float*>(from)[i]);
      else
        static_cast<float*>(to)[i] = floatOfBf16(static_cast<const uint16_t*>(from)[i]);
  });
}

const KernelTable copyKernels = {{"copy", prepareCopy, runCopy}, {"cast", prepareCast, runCast}};

}  // namespace voxgrad::cpu
