// The label of the largest channel, and where two label maps differ.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// The first maximum wins.
struct Argmax {
  const float* x;
  int channels;
  uint8_t* y;
  __device__ void operator()(int64_t row) const {
    const float* scores = x + row * channels;
    float best = scores[0];
    int index = 0;
    for (int c = 1; c < channels; c++) {
      const float score = scores[c];
      index = score > best ? c : index;
      best = score > best ? score : best;
    }
    y[row] = static_cast<uint8_t>(index);
  }
};

void runArgmax(const Step& step) {
  const Tensor& x = step.inputs[0];
  forEach("argmax", step.output.count(), Argmax{x.f32(), static_cast<int>(x.channels()), step.output.u8()});
}

struct NotEqual {
  const uint8_t *a, *b;
  uint8_t* y;
  __device__ void operator()(int64_t i) const { y[i] = a[i] != b[i]; }
};

void runNotEqual(const Step& step) {
  forEach("notEqual", step.output.count(),
          NotEqual{step.inputs[0].u8(), step.inputs[1].u8(), step.output.u8()});
}

}  // namespace

const KernelTable argmaxKernels = {
    kernel("argmax", runArgmax),
    kernel("notEqual", runNotEqual),
};

}  // namespace voxgrad::cuda
