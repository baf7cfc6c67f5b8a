// Comparison of scalars, and the choice between two tensors by a scalar.
#include "cuda.h"
#include "kernels.h"
#include "pack.h"

namespace voxgrad::cuda {
namespace {

struct Less {
  const float *a, *b;
  uint8_t* y;
  __device__ void operator()(int64_t) const { *y = *a < *b; }
};

void runLess(const Step& step) {
  forEach("less", 1, Less{step.inputs[0].f32(), step.inputs[1].f32(), step.output.u8()});
}

template <class T>
struct Select {
  const uint8_t* condition;
  const T *a, *b;
  T* y;
  __device__ void operator()(int64_t i) const {
    const T* chosen = *condition != 0 ? a : b;
    if (chosen != y) y[i] = chosen[i];
  }
};

template <class T>
void selectAs(const Step& step) {
  forEach("select", static_cast<int64_t>(step.output.bytes() / sizeof(T)),
          Select<T>{step.inputs[0].u8(), static_cast<const T*>(step.inputs[1].data),
                    static_cast<const T*>(step.inputs[2].data), static_cast<T*>(step.output.data)});
}

void runSelect(const Step& step) {
  const auto fits = [&](int64_t size) {
    return allMultiples({static_cast<int64_t>(step.output.bytes()), addressOf(step.inputs[1].data),
                         addressOf(step.inputs[2].data), addressOf(step.output.data)},
                        size);
  };
  const auto select = fits(16) ? selectAs<uint4> : fits(4) ? selectAs<uint32_t> : selectAs<uint8_t>;
  select(step);
}

}  // namespace

const KernelTable selectKernels = {
    kernel("less", runLess),
    kernel("select", runSelect),
};

}  // namespace voxgrad::cuda
