#include "conv_slabs.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

struct AddSlabs {
  const float* partial;
  int64_t slabs, count;
  float* dw;
  __device__ void operator()(int64_t i) const {
    double sum = 0;
    for (int64_t slab = 0; slab < slabs; slab++) sum += partial[slab * count + i];
    dw[i] = static_cast<float>(sum);
  }
};

// The same of many slabs, of which a thread reads every eighth: one after the other would take longer than
// what they are made by.
constexpr int manySlabs = 32;

__global__ void __launch_bounds__(sumThreads) addManySlabsKernel(AddSlabs add) {
  constexpr int rows = sumThreads / warpSize;
  const int64_t at = int64_t{blockIdx.x} * warpSize + threadIdx.x % warpSize;
  double sum[1] = {};
  if (at < add.count)
    for (int64_t slab = threadIdx.x / warpSize; slab < add.slabs; slab += rows)
      sum[0] += add.partial[slab * add.count + at];
  addRowsOfBlock<1>(rows, warpSize, sum);
  if (threadIdx.x < warpSize && at < add.count) add.dw[at] = static_cast<float>(sum[0]);
}

}  // namespace

void addSlabs(const float* partial, int64_t slabs, int64_t count, float* dw) {
  const AddSlabs add{partial, slabs, count, dw};
  if (slabs < manySlabs) return forEach("addSlabs", count, add);
  const auto blocks = static_cast<unsigned>(divideUp(count, warpSize));
  launch("addManySlabs", addManySlabsKernel, Grid{blocks, sumThreads, sumThreads * sizeof(double)}, add);
}

}  // namespace voxgrad::cuda
