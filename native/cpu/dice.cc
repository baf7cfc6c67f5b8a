// The Dice loss in two steps, sums over voxels and a scalar of them, and their gradients.
#include <algorithm>

#include "kernels.h"
#include "voxels.h"

namespace voxgrad::cpu {

// For each class the sums of p g, of p or p^2, and of g. A task is short enough to add in single precision.
template <int C>
VOXGRAD_INLINE void overlapBody(const LossRows& s) {
  constexpr int lanes = 16;
  const int count = C > 0 ? C : s.channels;
  alignas(64) float p[blockFloats<C>], weight[blockRows], sums[3 * lanes * (C > 0 ? C : mostChannels)];
  alignas(64) int32_t label[blockRows];
  for (int i = 0; i < 3 * lanes * count; i++) sums[i] = 0;
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, p);
    for (int c = 0; c < count; c++) {
      float both[lanes] = {}, mass[lanes] = {}, truth[lanes] = {};
      for (int r = 0; r < blockRows; r += lanes)
        for (int l = 0; l < lanes; l++) {
          const float hit = label[r + l] == c ? weight[r + l] : 0.0f;
          const float value = p[c * blockRows + r + l];
          both[l] += value * hit;
          mass[l] += (s.squared ? value * value : value) * weight[r + l];
          truth[l] += hit;
        }
      float* of = sums + 3 * lanes * c;
      for (int l = 0; l < lanes; l++) {
        of[l] += both[l];
        of[lanes + l] += mass[l];
        of[2 * lanes + l] += truth[l];
      }
    }
  }
  for (int i = 0; i < 3 * count; i++) {
    double total = 0;
    for (int l = 0; l < lanes; l++) total += static_cast<double>(sums[i * lanes + l]);
    s.sums[i] = total;
  }
}
VOXGRAD_BY_CHANNELS(overlap, LossRows)

// From the gradients of the sums, three to a class at `target`.
template <int C>
VOXGRAD_INLINE void overlapGradientBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float p[blockFloats<C>], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, p);
    for (int c = 0; c < count; c++) {
      const float both = s.target[3 * c], mass = s.target[3 * c + 1];
      for (int r = 0; r < blockRows; r++) {
        const float slope = s.squared ? 2.0f * mass * p[c * blockRows + r] : mass;
        p[c * blockRows + r] = weight[r] * (slope + (label[r] == c ? both : 0.0f));
      }
    }
    storeRows<C>(p, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(overlapGradient, LossRows)

static int64_t samplesOf(const Step& step) {
  return step.attributes.flag("perSample") ? step.inputs[0].shape[0] : 1;
}

static const Tensor& checkDice(const Step& step, bool gradient) {
  const Tensor& p = expectVoxelTensor(step, gradient);
  if (p.rank < 2) refuse(step, "expected at least 2 axes");
  expectLabels(step, step.inputs[1], rowsOf(p));
  step.attributes.flag("squared");
  return p;
}

static size_t prepareDiceSums(const Step& step) {
  expectInputs(step, 2, 2);
  const Tensor& p = checkDice(step, false);
  const int64_t samples = samplesOf(step), sums = 3 * p.channels();
  expectCount(step, step.output, samples * sums);
  return static_cast<size_t>(samples * chunksOf(rowsOf(p) / samples) * sums) * sizeof(double);
}

static LossRows diceOf(const Step& step) {
  LossRows loss = lossOf(step);
  setLabels(step.inputs[1], &loss.voxels);
  loss.squared = step.attributes.flag("squared");
  return loss;
}

// Calls f(sample, chunk of the sample, part) for every chunk of every sample.
template <class F>
static void forEachSampleChunk(int64_t samples, int64_t rows, const LossRows& loss, F f) {
  const int64_t chunks = chunksOf(rows);
  parallelFor(samples * chunks, [&](int64_t task) {
    const int64_t sample = task / chunks, first = task % chunks * chunkRows;
    LossRows part = loss;
    part.begin = sample * rows + first;
    part.end = sample * rows + std::min(rows, first + chunkRows);
    f(sample, task, part);
  });
}

static void runDiceSums(const Step& step) {
  const int64_t samples = samplesOf(step), rows = rowsOf(step.inputs[0]) / samples;
  const int64_t sums = 3 * step.inputs[0].channels(), chunks = chunksOf(rows);
  double* partial = static_cast<double*>(step.workspace);
  forEachSampleChunk(samples, rows, diceOf(step), [=](int64_t, int64_t task, LossRows& part) {
    part.sums = partial + task * sums;
    overlap(part);
  });
  float* y = step.output.f32();
  for (int64_t sample = 0; sample < samples; sample++)
    for (int64_t i = 0; i < sums; i++) {
      double total = 0;
      for (int64_t chunk = 0; chunk < chunks; chunk++) total += partial[(sample * chunks + chunk) * sums + i];
      y[sample * sums + i] = static_cast<float>(total);
    }
}

static size_t prepareDiceSumsGradient(const Step& step) {
  expectInputs(step, 3, 3);
  const Tensor& p = checkDice(step, true);
  expectFloat(step, step.inputs[2], samplesOf(step) * 3 * p.channels());
  return 0;
}

static void runDiceSumsGradient(const Step& step) {
  const int64_t samples = samplesOf(step), rows = rowsOf(step.inputs[0]) / samples;
  const int64_t sums = 3 * step.inputs[0].channels();
  const float* slopes = step.inputs[2].f32();
  forEachSampleChunk(samples, rows, diceOf(step), [=](int64_t sample, int64_t, LossRows& part) {
    part.target = slopes + sample * sums;
    overlapGradient(part);
  });
}

static void checkDiceOfSums(const Step& step) {
  const Tensor& sums = step.inputs[0];
  expectDType(step, sums, DType::f32);
  expectRank(step, sums, 3);
  if (sums.shape[2] != 3) refuse(step, "expected three sums to a class");
  expectDType(step, step.output, DType::f32);
  step.attributes.number("smooth");
  step.attributes.flag("background");
}

static size_t prepareDiceOfSums(const Step& step) {
  expectInputs(step, 1, 1);
  checkDiceOfSums(step);
  expectCount(step, step.output, 1);
  return 0;
}

static size_t prepareDiceOfSumsGradient(const Step& step) {
  expectInputs(step, 2, 2);
  checkDiceOfSums(step);
  expectFloat(step, step.inputs[1], 1);
  expectSameShape(step, step.inputs[0], step.output);
  return 0;
}

static void runDiceOfSums(const Step& step) {
  const Tensor& sums = step.inputs[0];
  const double smooth = step.attributes.number("smooth");
  const int64_t first = step.attributes.flag("background") ? 0 : 1, classes = sums.shape[1];
  double total = 0;
  for (int64_t sample = 0; sample < sums.shape[0]; sample++)
    for (int64_t c = first; c < classes; c++) {
      const float* of = sums.f32() + (sample * classes + c) * 3;
      total += 1 - (2.0 * of[0] + smooth) / (double(of[1]) + of[2] + smooth);
    }
  step.output.f32()[0] = static_cast<float>(total / static_cast<double>(sums.shape[0] * (classes - first)));
}

static void runDiceOfSumsGradient(const Step& step) {
  const Tensor& sums = step.inputs[0];
  const double smooth = step.attributes.number("smooth");
  const int64_t first = step.attributes.flag("background") ? 0 : 1, classes = sums.shape[1];
  const double slope = step.inputs[1].f32()[0] / static_cast<double>(sums.shape[0] * (classes - first));
  for (int64_t i = 0; i < sums.shape[0] * classes; i++) {
    const float* of = sums.f32() + i * 3;
    const double divisor = double(of[1]) + of[2] + smooth, factor = i % classes < first ? 0 : slope;
    const double byMass = factor * (2.0 * of[0] + smooth) / (divisor * divisor);
    float* y = step.output.f32() + i * 3;
    y[0] = static_cast<float>(-2 * factor / divisor);
    y[1] = static_cast<float>(byMass);
    y[2] = static_cast<float>(byMass);
  }
}

const KernelTable diceKernels = {
    {"diceSums", prepareDiceSums, runDiceSums},
    {"diceSumsGradient", prepareDiceSumsGradient, runDiceSumsGradient},
    {"diceOfSums", prepareDiceOfSums, runDiceOfSums},
    {"diceOfSumsGradient", prepareDiceOfSumsGradient, runDiceOfSumsGradient},
};

}  // namespace voxgrad::cpu
