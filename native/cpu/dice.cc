// The sums over voxels that the Dice loss is made of, and their gradient.
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

static SampleChunks chunksOf(const Tensor& p) { return {p.shape[0], rowsOf(p) / p.shape[0], chunkRows}; }

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
  expectCount(step, step.output, p.shape[0] * 3 * p.channels());
  return static_cast<size_t>(chunksOf(p).count() * 3 * p.channels()) * sizeof(double);
}

static LossRows diceOf(const Step& step) {
  LossRows loss = lossOf(step);
  setLabels(step.inputs[1], &loss.voxels);
  loss.squared = step.attributes.flag("squared");
  return loss;
}

static void runDiceSums(const Step& step) {
  const SampleChunks chunks = chunksOf(step.inputs[0]);
  const int64_t sums = 3 * step.inputs[0].channels();
  double* partial = static_cast<double*>(step.workspace);
  const LossRows loss = diceOf(step);
  chunks.forEach([=](int64_t, int64_t task, int64_t begin, int64_t rows) {
    LossRows part = loss;
    part.begin = begin;
    part.end = begin + rows;
    part.sums = partial + task * sums;
    overlap(part);
  });
  chunks.add(partial, sums, step.output.f32());
}

static size_t prepareDiceSumsGradient(const Step& step) {
  expectInputs(step, 3, 3);
  const Tensor& p = checkDice(step, true);
  expectFloat(step, step.inputs[2], p.shape[0] * 3 * p.channels());
  return 0;
}

static void runDiceSumsGradient(const Step& step) {
  const int64_t sums = 3 * step.inputs[0].channels();
  const float* slopes = step.inputs[2].f32();
  const LossRows loss = diceOf(step);
  chunksOf(step.inputs[0]).forEach([=](int64_t sample, int64_t, int64_t begin, int64_t rows) {
    LossRows part = loss;
    part.begin = begin;
    part.end = begin + rows;
    part.target = slopes + sample * sums;
    overlapGradient(part);
  });
}

const KernelTable diceKernels = {
    {"diceSums", prepareDiceSums, runDiceSums},
    {"diceSumsGradient", prepareDiceSumsGradient, runDiceSumsGradient},
};

}  // namespace voxgrad::cpu
