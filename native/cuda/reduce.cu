// Sums over all axes but the channels, and their transpose.
#include "bf16.h"
#include "index.h"
#include "kernels.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

template <class T>
struct AddRow {
  const T* x;
  int64_t channels;
  __device__ void operator()(int64_t, int64_t row, int64_t column, double (&sums)[1]) const {
    sums[0] += float{x[row * channels + column]};
  }
};

struct StoreSums {
  float* y;
  __device__ void operator()(int64_t, int64_t column, const double (&totals)[1]) const {
    y[column] = static_cast<float>(totals[0]);
  }
};

SumShape sumShape(const Step& step) {
  const Tensor& x = step.inputs[0];
  return {1, x.count() / x.channels(), x.channels()};
}

size_t sumWorkspace(const Step& step) { return sumBytes<1>(sumShape(step)); }

void runSumToChannels(const Step& step) {
  const SumShape shape = sumShape(step);
  byStorage(step.inputs[0], [&](auto storage) {
    using T = typename decltype(storage)::type;
    columnSums<1>("sumToChannels", shape, step.workspace, AddRow<T>{dataOf<T>(step.inputs[0]), shape.columns},
                  StoreSums{step.output.f32()});
  });
}

struct Broadcast {
  const float* x;
  Divisor channels;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[channels.remainder(i)]; }
};

void runBroadcast(const Step& step) {
  forEach("broadcastChannels", step.output.count(),
          Broadcast{step.inputs[0].f32(), Divisor(step.output.channels()), step.output.f32()});
}

}  // namespace

const KernelTable reduceKernels = {
    narrowable(kernel("sumToChannels", runSumToChannels, sumWorkspace), 1),
    kernel("broadcastChannels", runBroadcast),
};

}  // namespace voxgrad::cuda
