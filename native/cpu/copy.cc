// A copy of any element type: how a computed value becomes the next contents of a state.
#include <cstring>

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

const KernelTable copyKernels = {{"copy", prepareCopy, runCopy}};

}  // namespace voxgrad::cpu
