// Mean and variance of the channels or groups of an activation.
#include "bf16.h"
#include "kernels.h"
#include "moments.h"
#include "norm.h"

namespace voxgrad::cuda {
namespace {

struct StoreTotals {
  int64_t channels;
  double* totals;
  __device__ void operator()(int64_t set, int64_t channel, const double (&own)[2]) const {
    for (int k = 0; k < 2; k++) totals[(set * channels + channel) * 2 + k] = own[k];
  }
};

struct JoinChannels {
  const double* totals;
  int64_t perGroup;
  double count;
  float* moments;
  __device__ void operator()(int64_t group) const {
    double sum = 0, square = 0;
    for (int64_t i = group * perGroup; i < (group + 1) * perGroup; i++) {
      sum += totals[2 * i];
      square += totals[2 * i + 1];
    }
    storeMoments(sum, square, count, moments + 2 * group);
  }
};

SumShape shapeOf(const Sets& sets) { return {sets.sets, sets.rows, sets.channels}; }

size_t momentsWorkspace(const Step& step) {
  const Sets sets(step.inputs[0], step.output);
  const size_t totals = static_cast<size_t>(sets.sets * sets.channels * 2) * sizeof(double);
  return sumBytes<2>(shapeOf(sets)) + totals;
}

void runMoments(const Step& step) {
  const Sets sets(step.inputs[0], step.output);
  const SumShape shape = shapeOf(sets);
  const double count = static_cast<double>(sets.groupCount);
  float* moments = step.output.f32();
  double* totals = static_cast<double*>(step.workspace) + sumBytes<2>(shape) / sizeof(double);
  const bool alone = sets.groups == sets.channels;
  byStorage(step.inputs[0], [&](auto storage) {
    using T = typename decltype(storage)::type;
    const AddSquares<T> add{dataOf<T>(step.inputs[0]), sets.rows, sets.channels};
    if (alone)
      columnSums<2>("moments", shape, step.workspace, add, StoreMoments{count, sets.channels, moments});
    else
      columnSums<2>("moments", shape, step.workspace, add, StoreTotals{sets.channels, totals});
  });
  if (alone) return;
  forEach("joinChannels", sets.sets * sets.groups, JoinChannels{totals, sets.perGroup, count, moments});
}

struct Unbiased {
  const float* x;
  float factor;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = i % 2 == 0 ? x[i] : x[i] * factor; }
};

void runUnbiased(const Step& step) {
  const double count = step.attributes.number("count");
  forEach("unbiasedMoments", step.output.count(),
          Unbiased{step.inputs[0].f32(), static_cast<float>(count / (count - 1)), step.output.f32()});
}

}  // namespace

const KernelTable momentsKernels = {
    narrowable(kernel("moments", runMoments, momentsWorkspace), 1),
    kernel("unbiasedMoments", runUnbiased),
};

}  // namespace voxgrad::cuda
