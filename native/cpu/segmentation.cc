// The losses of a segmentation straight from the logits: sums over voxels in one pass, their gradient in
// another, and the ratios that the sums are made for.
#include <algorithm>

#include "isa.h"
#include "kernels.h"
#include "voxels.h"

namespace voxgrad::cpu {

static SampleChunks tasksOf(const Tensor& logits) {
  return {logits.shape[0], rowsOf(logits) / logits.shape[0], taskRows};
}

static int64_t sumsOf(const Step& step) { return fusedLossSums(step.inputs[0].channels()); }

// Inputs: logits, labels, in gradients the slopes of the sums, and perhaps a mask.
static void checkSums(const Step& step, bool gradient) {
  const size_t least = gradient ? 3 : 2;
  expectInputs(step, least, least + 1);
  const Tensor& logits = expectVoxelTensor(step, gradient);
  if (logits.rank < 2) refuse(step, "expected at least 2 axes");
  expectDType(step, step.inputs[1], DType::u8);
  expectCount(step, step.inputs[1], rowsOf(logits));
  expectMask(step, least, rowsOf(logits));
  expectFloat(step, gradient ? step.inputs[2] : step.output, logits.shape[0] * sumsOf(step));
  step.attributes.flag("squared");
  step.attributes.flag("background");
}

static FusedLossRows lossAt(const Step& step, size_t maskIndex, int64_t begin, int64_t rows) {
  FusedLossRows part = {};
  part.channels = static_cast<int>(step.inputs[0].channels());
  part.logits = step.inputs[0].f32() + begin * part.channels;
  part.labels = step.inputs[1].u8() + begin;
  if (step.inputs.size() > maskIndex) part.mask = step.inputs[maskIndex].u8() + begin;
  part.rows = rows;
  part.first = step.attributes.flag("background") ? 0 : 1;
  part.squared = step.attributes.flag("squared");
  return part;
}

static size_t prepareSums(const Step& step) {
  checkSums(step, false);
  return static_cast<size_t>(tasksOf(step.inputs[0]).count() * sumsOf(step)) * sizeof(double);
}

static void runSums(const Step& step) {
  const SampleChunks tasks = tasksOf(step.inputs[0]);
  const int64_t sums = sumsOf(step);
  double* partial = static_cast<double*>(step.workspace);
  tasks.forEach([&](int64_t, int64_t task, int64_t begin, int64_t rows) {
    FusedLossRows part = lossAt(step, 2, begin, rows);
    part.sums = partial + task * sums;
    fusedLossKernels().sums(part);
  });
  tasks.add(partial, sums, step.output.f32());
}

static size_t prepareSumsGradient(const Step& step) {
  checkSums(step, true);
  return 0;
}

static void runSumsGradient(const Step& step) {
  const int64_t sums = sumsOf(step);
  tasksOf(step.inputs[0]).forEach([&](int64_t sample, int64_t, int64_t begin, int64_t rows) {
    FusedLossRows part = lossAt(step, 3, begin, rows);
    part.slopes = step.inputs[2].f32() + sample * sums;
    part.gradient = step.output.f32() + begin * part.channels;
    fusedLossKernels().gradient(part);
  });
}

// The first two sums of a row, added over the samples.
struct Ratio {
  double over = 0, under = 0;

  explicit Ratio(const Step& step) {
    const Tensor& sums = step.inputs[0];
    for (int64_t sample = 0; sample < sums.shape[0]; sample++) {
      const float* of = sums.f32() + (sample * sums.shape[1] + step.attributes.integer("row")) * 3;
      over += of[0];
      under += of[1];
    }
  }
};

static void checkRatio(const Step& step) {
  const Tensor& sums = step.inputs[0];
  expectDType(step, sums, DType::f32);
  expectRank(step, sums, 3);
  const int64_t row = step.attributes.integer("row");
  if (sums.shape[2] != 3 || row < 0 || row >= sums.shape[1]) refuse(step, "expected a row of three sums");
  expectDType(step, step.output, DType::f32);
}

static size_t prepareRatio(const Step& step) {
  expectInputs(step, 1, 1);
  checkRatio(step);
  expectCount(step, step.output, 1);
  return 0;
}

static size_t prepareRatioGradient(const Step& step) {
  expectInputs(step, 2, 2);
  checkRatio(step);
  expectFloat(step, step.inputs[1], 1);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static void runRatio(const Step& step) {
  const Ratio ratio(step);
  // A NaN among voxels that do not count must show as well.
  step.output.f32()[0] = static_cast<float>(ratio.under > 0 ? ratio.over / ratio.under : ratio.over);
}

static void runRatioGradient(const Step& step) {
  const Ratio ratio(step);
  const double slope = ratio.under > 0 ? step.inputs[1].f32()[0] / ratio.under : 0;
  const Tensor& y = step.output;
  std::fill(y.f32(), y.f32() + y.count(), 0.0f);
  for (int64_t sample = 0; sample < y.shape[0]; sample++) {
    float* of = y.f32() + (sample * y.shape[1] + step.attributes.integer("row")) * 3;
    of[0] = static_cast<float>(slope);
    of[1] = slope == 0 ? 0.0f : static_cast<float>(-slope * ratio.over / ratio.under);
  }
}

// Inputs: logits, the logits of the other softmax, and in the gradient that of the distance.
static void checkDistance(const Step& step, bool gradient) {
  expectInputs(step, gradient ? 3 : 2, gradient ? 3 : 2);
  const Tensor& logits = expectVoxelTensor(step, gradient);
  expectDType(step, step.inputs[1], DType::f32);
  expectSameShape(step, logits, step.inputs[1]);
  expectFloat(step, gradient ? step.inputs[2] : step.output, 1);
  step.attributes.number("temperature");
}

static SoftmaxRows distanceAt(const Step& step, int64_t begin, int64_t end) {
  SoftmaxRows part = {};
  part.channels = static_cast<int>(step.inputs[0].channels());
  part.a = step.inputs[0].f32() + begin * part.channels;
  part.b = step.inputs[1].f32() + begin * part.channels;
  part.rows = end - begin;
  part.factor = static_cast<float>(1 / step.attributes.number("temperature"));
  return part;
}

static size_t prepareDistance(const Step& step) {
  checkDistance(step, false);
  return static_cast<size_t>((rowsOf(step.inputs[0]) + taskRows - 1) / taskRows) * sizeof(double);
}

static size_t prepareDistanceGradient(const Step& step) {
  checkDistance(step, true);
  return 0;
}

static void runDistance(const Step& step) {
  const int64_t rows = rowsOf(step.inputs[0]);
  double* partial = static_cast<double*>(step.workspace);
  parallelRange(
      rows,
      [&](int64_t begin, int64_t end) {
        SoftmaxRows part = distanceAt(step, begin, end);
        part.sum = partial + begin / taskRows;
        softmaxRowKernels().distance(part);
      },
      taskRows);
  double total = 0;
  for (int64_t task = 0; task * taskRows < rows; task++) total += partial[task];
  step.output.f32()[0] = static_cast<float>(total / static_cast<double>(step.inputs[0].count()));
}

static void runDistanceGradient(const Step& step) {
  const double slope = step.inputs[2].f32()[0] / static_cast<double>(step.inputs[0].count());
  parallelRange(
      rowsOf(step.inputs[0]),
      [&](int64_t begin, int64_t end) {
        SoftmaxRows part = distanceAt(step, begin, end);
        part.y = step.output.f32() + begin * part.channels;
        part.slope = static_cast<float>(slope);
        softmaxRowKernels().distanceGradient(part);
      },
      taskRows);
}

const KernelTable segmentationKernels = {
    {"segmentationSums", prepareSums, runSums},
    {"segmentationSumsGradient", prepareSumsGradient, runSumsGradient},
    {"ratioOfSums", prepareRatio, runRatio},
    {"ratioOfSumsGradient", prepareRatioGradient, runRatioGradient},
    {"softmaxDistance", prepareDistance, runDistance},
    {"softmaxDistanceGradient", prepareDistanceGradient, runDistanceGradient},
};

}  // namespace voxgrad::cpu
