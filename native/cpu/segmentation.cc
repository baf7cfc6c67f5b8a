// The losses of a segmentation straight from the logits: sums over voxels in one pass, their gradient in
// another.
#include <algorithm>

#include "../core/segmentation_step.h"
#include "isa.h"
#include "kernels.h"
#include "voxels.h"

namespace voxgrad::cpu {

static SampleChunks tasksOf(const Tensor& logits) {
  return {logits.shape[0], rowsOf(logits) / logits.shape[0], taskRows};
}

static int64_t sumsOf(const Tensor& logits) { return fusedLossSums(logits.channels()); }

static size_t partialBytes(const Tensor& logits) {
  return static_cast<size_t>(tasksOf(logits).count() * sumsOf(logits)) * sizeof(double);
}

// All voxels of a step; the gradient and where the sums go are yet to be set.
static FusedLossRows lossOf(const Step& step, const Tensor& logits, const Tensor& labels,
                            const uint8_t* mask) {
  FusedLossRows loss = {};
  loss.channels = static_cast<int>(logits.channels());
  loss.logits = logits.f32();
  loss.labels = labels.u8();
  loss.mask = mask;
  loss.first = step.attributes.flag("background") ? 0 : 1;
  loss.squared = step.attributes.flag("squared");
  return loss;
}

static FusedLossRows part(FusedLossRows loss, int64_t begin, int64_t rows) {
  loss.logits += begin * loss.channels;
  loss.labels += begin;
  if (loss.mask != nullptr) loss.mask += begin;
  if (loss.gradient != nullptr) loss.gradient += begin * loss.channels;
  loss.rows = rows;
  return loss;
}

static void addUp(const FusedLossRows& loss, const Tensor& logits, void* workspace, float* sums) {
  const SampleChunks tasks = tasksOf(logits);
  const int64_t count = sumsOf(logits);
  double* partial = static_cast<double*>(workspace);
  tasks.forEach([&](int64_t, int64_t task, int64_t begin, int64_t rows) {
    FusedLossRows of = part(loss, begin, rows);
    of.sums = partial + task * count;
    fusedLossKernels().sums(of);
  });
  tasks.add(partial, count, sums);
}

// Inputs: logits, labels, in gradients the slopes of the sums, and perhaps a mask.
static void checkSums(const Step& step, bool gradient) {
  const size_t least = gradient ? 3 : 2;
  expectInputs(step, least, least + 1);
  const Tensor& logits = expectVoxelTensor(step, gradient);
  if (logits.rank < 2) refuse(step, "expected at least 2 axes");
  expectDType(step, step.inputs[1], DType::u8);
  expectCount(step, step.inputs[1], rowsOf(logits));
  expectMask(step, least, rowsOf(logits));
  expectFloat(step, gradient ? step.inputs[2] : step.output, logits.shape[0] * sumsOf(logits));
  step.attributes.flag("squared");
  step.attributes.flag("background");
}

static FusedLossRows lossAt(const Step& step, size_t mask) {
  return lossOf(step, step.inputs[0], step.inputs[1],
                step.inputs.size() > mask ? step.inputs[mask].u8() : nullptr);
}

static size_t prepareSums(const Step& step) {
  checkSums(step, false);
  return partialBytes(step.inputs[0]);
}

static void runSums(const Step& step) {
  addUp(lossAt(step, 2), step.inputs[0], step.workspace, step.output.f32());
}

static size_t prepareSumsGradient(const Step& step) {
  checkSums(step, true);
  return 0;
}

static void runSumsGradient(const Step& step) {
  FusedLossRows loss = lossAt(step, 3);
  loss.gradient = step.output.f32();
  tasksOf(step.inputs[0]).forEach([&](int64_t sample, int64_t, int64_t begin, int64_t rows) {
    double sums[fusedLossSums(mostChannels)];
    // What the gradient is made of stays in the caches.
    for (int64_t at = 0; at < rows; at += chunkRows) {
      FusedLossRows of = part(loss, begin + at, std::min(rows - at, chunkRows));
      of.sums = sums;
      of.slopes = step.inputs[2].f32() + sample * sumsOf(step.inputs[0]);
      fusedLossKernels().sums(of);
      fusedLossKernels().gradient(of);
    }
  });
}

static size_t prepareLosses(const Step& step) {
  const SegmentationStep losses(step);
  losses.check();
  return partialBytes(losses.logits()) + losses.sums().bytes();
}

// The first pass leaves what the gradient is made of in its place, so that the second one need not read the
// logits, or find their exponentials, again.
static void runLosses(const Step& step) {
  const SegmentationStep losses(step);
  const Tensor& logits = losses.logits();
  FusedLossRows loss = lossOf(step, logits, losses.labels(), losses.mask());
  loss.gradient = step.output.f32();
  addUp(loss, logits, step.workspace, losses.sums().f32());

  const LossTerms terms = losses.terms();
  const int64_t rows = logits.channels() + 2;
  float* slopes = reinterpret_cast<float*>(static_cast<char*>(step.workspace) + partialBytes(logits));
  for (int64_t i = 0; i < logits.shape[0] * rows; i++) {
    float of[3];
    terms.slopes(losses.sums().f32(), i / rows, i % rows, of);
    std::copy(of, of + 3, slopes + 3 * i);
  }
  tasksOf(logits).forEach([&](int64_t sample, int64_t, int64_t begin, int64_t count) {
    FusedLossRows of = part(loss, begin, count);
    of.slopes = slopes + sample * sumsOf(logits);
    fusedLossKernels().gradient(of);
  });
}

static size_t updatedByLosses(const Step&) { return 1; }

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
    {"segmentationLosses", prepareLosses, runLosses, nullptr, nullptr, updatedByLosses},
    {"softmaxDistance", prepareDistance, runDistance},
    {"softmaxDistanceGradient", prepareDistanceGradient, runDistanceGradient},
};

}  // namespace voxgrad::cpu
