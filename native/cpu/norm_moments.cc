// Mean and variance of the channels or groups of an activation.
#include "isa.h"
#include "kernels.h"
#include "norm.h"

namespace voxgrad::cpu {

static size_t prepareMoments(const Step& step) {
  expectInputs(step, 1, 1);
  const Sets sets(step, step.inputs[0], step.output);
  return channelSumBytes(Lanes(sets.channels), sets.sets, sets.count, 2);
}

static void runMoments(const Step& step) {
  const Sets sets(step, step.inputs[0], step.output);
  const Lanes lanes(sets.channels);
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  channelSums<2>(
      lanes, sets.sets, sets.count, step.workspace,
      [&](int64_t begin, int64_t count, double* sums) {
        sumKernels().squares(x + begin, count, lanes.width, sums);
      },
      [&](int64_t set, const double* totals) {
        const int64_t perGroup = sets.channels / sets.groups;
        for (int64_t group = 0; group < sets.groups; group++) {
          double sum = 0, square = 0;
          for (int64_t c = group * perGroup; c < (group + 1) * perGroup; c++) {
            sum += totals[c];
            square += totals[lanes.width + c];
          }
          const double n = static_cast<double>(sets.groupCount), mean = sum / n;
          const double variance = square / n - mean * mean;
          // A comparison that is false for NaN: what is not finite in x shows in the moments.
          float* moments = y + (set * sets.groups + group) * 2;
          moments[0] = static_cast<float>(mean);
          moments[1] = variance < 0 ? 0.0f : static_cast<float>(variance);
        }
      });
}

static size_t prepareUnbiased(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  expectRank(step, step.output, 3);
  if (step.output.shape[2] != 2) refuse(step, "moments must be [sets, groups, 2]");
  if (step.attributes.integer("count") < 2) refuse(step, "count must be at least 2");
  return 0;
}

static void runUnbiased(const Step& step) {
  const double count = step.attributes.number("count");
  const float factor = static_cast<float>(count / (count - 1));
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  for (int64_t i = 0; i < step.output.count(); i += 2) {
    y[i] = x[i];
    y[i + 1] = x[i + 1] * factor;
  }
}

const KernelTable momentsKernels = {
    {"moments", prepareMoments, runMoments},
    {"unbiasedMoments", prepareUnbiased, runUnbiased},
};

}  // namespace voxgrad::cpu
