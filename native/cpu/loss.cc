// Losses over voxels: cross-entropy, Dice and squared error, and their gradients.
#include <algorithm>

#include "elementwise.h"
#include "kernels.h"
#include "rows.h"

namespace voxgrad::cpu {

// Which voxels count, how much, and what class they are: from labels, a mask and class weights, each of which
// may be absent. A voxel whose label is no class does not count, so no label is ever used as an index
// unchecked.
struct Voxels {
  const uint8_t* bytes = nullptr;
  const int32_t* integers = nullptr;
  const uint8_t* mask = nullptr;
  const double* weights = nullptr;
  int64_t ignore = -1;
  int channels = 0;

  VOXGRAD_INLINE void load(int64_t row, int rows, int32_t* label, float* weight) const {
    for (int r = rows; r < blockRows; r++) label[r] = -1;
    if (bytes != nullptr) {
      for (int r = 0; r < rows; r++) label[r] = bytes[row + r];
    } else if (integers != nullptr) {
      for (int r = 0; r < rows; r++) label[r] = integers[row + r];
    } else {
      for (int r = 0; r < rows; r++) label[r] = 0;
    }
    if (mask != nullptr)
      for (int r = 0; r < rows; r++) label[r] = mask[row + r] != 0 ? label[r] : -1;
    for (int r = 0; r < blockRows; r++) {
      const bool counts = label[r] >= 0 && label[r] < channels && label[r] != ignore;
      weight[r] = counts ? 1.0f : 0.0f;
      label[r] = counts ? label[r] : 0;
    }
    if (weights != nullptr)
      for (int r = 0; r < blockRows; r++) weight[r] *= static_cast<float>(weights[label[r]]);
  }
};

// A range of rows of one loss: a task of at most chunkRows.
struct LossRows {
  Voxels voxels;
  const float* x;
  const float* target;
  float* y;
  double* sums;
  int64_t begin, end;
  int channels;
  int first;
  float factor;
  bool squared;
};

VOXGRAD_INLINE int blockAt(const LossRows& s, int64_t row) {
  return static_cast<int>(s.end - row < blockRows ? s.end - row : blockRows);
}

// Adds weight * value and weight over the rows of a block to eight running sums each.
constexpr int sumLanes = 8;
VOXGRAD_INLINE void addRows(const float* weight, const float* value, double* sums, double* weights) {
  for (int r = 0; r < blockRows; r += sumLanes)
    for (int l = 0; l < sumLanes; l++) {
      sums[l] += static_cast<double>(weight[r + l] * value[r + l]);
      weights[l] += static_cast<double>(weight[r + l]);
    }
}

static double sumOf(const double* lanes) {
  double total = 0;
  for (int l = 0; l < sumLanes; l++) total += lanes[l];
  return total;
}

template <int C>
VOXGRAD_INLINE void entropyBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float block[blockFloats<C>], largest[blockRows], total[blockRows], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  double sums[sumLanes] = {}, weights[sumLanes] = {};
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, block);
    rowMaxima<C>(block, count, largest);
    rowExponentials<C>(block, count, 1.0f, largest, total, nullptr);
    for (int r = 0; r < blockRows; r++) total[r] = logOf(total[r]) + largest[r];
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) {
        // The logit of the label or 0, by a mask of bits: no branch, and other logits may be infinite.
        const uint32_t hit = 0u - static_cast<uint32_t>(label[r] == c);
        total[r] -= floatOf(bitsOf(block[c * blockRows + r]) & hit);
      }
    addRows(weight, total, sums, weights);
  }
  s.sums[0] = sumOf(sums);
  s.sums[1] = sumOf(weights);
}
VOXGRAD_BY_CHANNELS(entropy, LossRows)

// dx = factor * weight * (softmax - one-hot)
template <int C>
VOXGRAD_INLINE void entropyGradBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float block[blockFloats<C>], largest[blockRows], total[blockRows], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, block);
    rowMaxima<C>(block, count, largest);
    rowExponentials<C>(block, count, 1.0f, largest, total, block);
    for (int r = 0; r < blockRows; r++) {
      weight[r] *= s.factor;
      total[r] = 1.0f / total[r];
    }
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) {
        const float hit = label[r] == c ? 1.0f : 0.0f;
        block[c * blockRows + r] = weight[r] * (block[c * blockRows + r] * total[r] - hit);
      }
    storeRows<C>(block, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(entropyGrad, LossRows)

// Fills `target` with the target of each channel, from the tensor or from the labels.
template <int C>
VOXGRAD_INLINE void loadTarget(const LossRows& s, int64_t row, int rows, const int32_t* label,
                               float* target) {
  const int count = C > 0 ? C : s.channels;
  if (s.target != nullptr) return loadRows<C>(s.target + row * count, count, rows, target);
  for (int c = 0; c < count; c++)
    for (int r = 0; r < blockRows; r++) target[c * blockRows + r] = label[r] == c ? 1.0f : 0.0f;
}

template <int C>
VOXGRAD_INLINE void squaredErrorBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float p[blockFloats<C>], target[blockFloats<C>], error[blockRows], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  double sums[sumLanes] = {}, weights[sumLanes] = {};
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, p);
    loadTarget<C>(s, row, rows, label, target);
    for (int r = 0; r < blockRows; r++) error[r] = 0;
    for (int c = s.first; c < count; c++)
      for (int r = 0; r < blockRows; r++) {
        const float difference = p[c * blockRows + r] - target[c * blockRows + r];
        error[r] += difference * difference;
      }
    addRows(weight, error, sums, weights);
  }
  s.sums[0] = sumOf(sums);
  s.sums[1] = sumOf(weights);
}
VOXGRAD_BY_CHANNELS(squaredError, LossRows)

// dp = factor * weight * (p - target)
template <int C>
VOXGRAD_INLINE void squaredErrorGradBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float p[blockFloats<C>], target[blockFloats<C>], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    loadRows<C>(s.x + row * count, count, rows, p);
    loadTarget<C>(s, row, rows, label, target);
    for (int c = 0; c < count; c++) {
      const float factor = c < s.first ? 0.0f : s.factor;
      for (int r = 0; r < blockRows; r++)
        p[c * blockRows + r] = factor * weight[r] * (p[c * blockRows + r] - target[c * blockRows + r]);
    }
    storeRows<C>(p, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(squaredErrorGrad, LossRows)

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
VOXGRAD_INLINE void overlapGradBody(const LossRows& s) {
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
VOXGRAD_BY_CHANNELS(overlapGrad, LossRows)

template <int C>
VOXGRAD_INLINE void oneHotBody(const LossRows& s) {
  const int count = C > 0 ? C : s.channels;
  alignas(64) float block[blockFloats<C>], weight[blockRows];
  alignas(64) int32_t label[blockRows];
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    const int rows = blockAt(s, row);
    s.voxels.load(row, rows, label, weight);
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) block[c * blockRows + r] = label[r] == c ? weight[r] : 0.0f;
    storeRows<C>(block, count, rows, s.y + row * count);
  }
}
VOXGRAD_BY_CHANNELS(oneHot, LossRows)

VOXGRAD_CLONES static void countVoxels(const LossRows& s) {
  alignas(64) float weight[blockRows];
  alignas(64) int32_t label[blockRows];
  double sums[sumLanes] = {}, weights[sumLanes] = {};
  for (int64_t row = s.begin; row < s.end; row += blockRows) {
    s.voxels.load(row, blockAt(s, row), label, weight);
    addRows(weight, weight, sums, weights);
  }
  s.sums[0] = 0;
  s.sums[1] = sumOf(weights);
}

static int64_t chunksOf(int64_t rows) { return (rows + chunkRows - 1) / chunkRows; }

static size_t pairBytes(int64_t rows) { return static_cast<size_t>(chunksOf(rows)) * 2 * sizeof(double); }

template <class F>
static void forEachChunk(int64_t rows, const LossRows& loss, F f) {
  parallelRange(
      rows,
      [&](int64_t begin, int64_t end) {
        LossRows part = loss;
        part.begin = begin;
        part.end = end;
        f(part);
      },
      chunkRows);
}

struct Pair {
  double sum, weight;
};

// The sums of weight * value and of weight that `kernel` finds, added chunk by chunk in order.
static Pair addPairs(const Step& step, int64_t rows, const LossRows& loss, void (*kernel)(const LossRows&)) {
  double* pairs = static_cast<double*>(step.workspace);
  forEachChunk(rows, loss, [=](LossRows& part) {
    part.sums = pairs + part.begin / chunkRows * 2;
    kernel(part);
  });
  Pair total = {0, 0};
  for (int64_t chunk = 0; chunk < chunksOf(rows); chunk++) {
    total.sum += pairs[2 * chunk];
    total.weight += pairs[2 * chunk + 1];
  }
  return total;
}

static void setLabels(const Tensor& labels, Voxels* voxels) {
  if (labels.dtype == DType::u8) voxels->bytes = labels.u8();
  if (labels.dtype == DType::i32) voxels->integers = labels.i32();
}

static void expectLabels(const Step& step, const Tensor& labels, int64_t rows) {
  if (labels.dtype == DType::f32) refuse(step, "labels must be u8 or i32");
  expectCount(step, labels, rows);
}

static void expectMask(const Step& step, size_t index, int64_t rows) {
  if (step.inputs.size() <= index) return;
  expectDType(step, step.inputs[index], DType::u8);
  expectCount(step, step.inputs[index], rows);
}

static void expectFloat(const Step& step, const Tensor& tensor, int64_t count) {
  expectDType(step, tensor, DType::f32);
  expectCount(step, tensor, count);
}

// The first input, floats with few channels, which is also what gradients look like.
static const Tensor& expectVoxelTensor(const Step& step, bool gradient) {
  const Tensor& x = step.inputs[0];
  expectDType(step, x, DType::f32);
  expectFewChannels(step, x);
  expectDType(step, step.output, DType::f32);
  if (gradient) expectSameShape(step, x, step.output);
  return x;
}

static LossRows lossOf(const Step& step) {
  LossRows loss = {};
  loss.x = step.inputs[0].f32();
  loss.channels = static_cast<int>(step.inputs[0].channels());
  loss.y = step.output.f32();
  loss.voxels.channels = loss.channels;
  return loss;
}

// Inputs: x, labels or target, in gradients dy, and perhaps a mask.
static size_t prepareVoxelLoss(const Step& step, bool gradient, bool floatTarget) {
  const size_t least = gradient ? 3 : 2;
  expectInputs(step, least, least + 1);
  const Tensor& x = expectVoxelTensor(step, gradient);
  const int64_t rows = rowsOf(x);
  if (floatTarget && step.inputs[1].dtype == DType::f32)
    expectSameShape(step, step.inputs[1], x);
  else
    expectLabels(step, step.inputs[1], rows);
  expectMask(step, least, rows);
  if (gradient)
    expectFloat(step, step.inputs[2], 1);
  else
    expectCount(step, step.output, 1);
  return pairBytes(rows);
}

static void checkWeights(const Step& step) {
  const size_t weights = step.attributes.list("weights").size();
  if (weights != 0 && static_cast<int64_t>(weights) != step.inputs[0].channels())
    refuse(step, "expected one weight per class");
  step.attributes.integer("ignore");
}

static size_t prepareCrossEntropy(const Step& step) {
  const size_t bytes = prepareVoxelLoss(step, false, false);
  checkWeights(step);
  return bytes;
}

static size_t prepareCrossEntropyGrad(const Step& step) {
  const size_t bytes = prepareVoxelLoss(step, true, false);
  checkWeights(step);
  return bytes;
}

static LossRows crossEntropyOf(const Step& step, size_t maskIndex) {
  LossRows loss = lossOf(step);
  setLabels(step.inputs[1], &loss.voxels);
  if (step.inputs.size() > maskIndex) loss.voxels.mask = step.inputs[maskIndex].u8();
  const auto& weights = step.attributes.list("weights");
  loss.voxels.weights = weights.empty() ? nullptr : weights.data();
  loss.voxels.ignore = step.attributes.integer("ignore");
  return loss;
}

static void runCrossEntropy(const Step& step) {
  const Pair total = addPairs(step, rowsOf(step.inputs[0]), crossEntropyOf(step, 2), entropy);
  step.output.f32()[0] = total.weight > 0 ? static_cast<float>(total.sum / total.weight) : 0.0f;
}

static void runCrossEntropyGrad(const Step& step) {
  LossRows loss = crossEntropyOf(step, 3);
  const int64_t rows = rowsOf(step.inputs[0]);
  const double weight = addPairs(step, rows, loss, countVoxels).weight;
  loss.factor = weight > 0 ? static_cast<float>(step.inputs[2].f32()[0] / weight) : 0.0f;
  forEachChunk(rows, loss, [](const LossRows& part) { entropyGrad(part); });
}

static size_t prepareMaskedMse(const Step& step) {
  step.attributes.flag("background");
  return prepareVoxelLoss(step, false, true);
}

static size_t prepareMaskedMseGrad(const Step& step) {
  step.attributes.flag("background");
  return prepareVoxelLoss(step, true, true);
}

static LossRows maskedMseOf(const Step& step, size_t maskIndex) {
  LossRows loss = lossOf(step);
  setLabels(step.inputs[1], &loss.voxels);
  if (step.inputs[1].dtype == DType::f32) loss.target = step.inputs[1].f32();
  if (step.inputs.size() > maskIndex) loss.voxels.mask = step.inputs[maskIndex].u8();
  loss.first = step.attributes.flag("background") ? 0 : 1;
  return loss;
}

// What the squared errors of `weight` voxels are divided by; 0 when there are none.
static double divisorOf(const LossRows& loss, double weight) {
  return loss.voxels.mask != nullptr ? weight : weight * (loss.channels - loss.first);
}

static void runMaskedMse(const Step& step) {
  const LossRows loss = maskedMseOf(step, 2);
  const Pair total = addPairs(step, rowsOf(step.inputs[0]), loss, squaredError);
  const double divisor = divisorOf(loss, total.weight);
  step.output.f32()[0] = divisor > 0 ? static_cast<float>(total.sum / divisor) : 0.0f;
}

static void runMaskedMseGrad(const Step& step) {
  LossRows loss = maskedMseOf(step, 3);
  const int64_t rows = rowsOf(step.inputs[0]);
  const double divisor = divisorOf(loss, addPairs(step, rows, loss, countVoxels).weight);
  loss.factor = divisor > 0 ? static_cast<float>(2.0 * step.inputs[2].f32()[0] / divisor) : 0.0f;
  forEachChunk(rows, loss, [](const LossRows& part) { squaredErrorGrad(part); });
}

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

static size_t prepareDiceSumsGrad(const Step& step) {
  expectInputs(step, 3, 3);
  const Tensor& p = checkDice(step, true);
  expectFloat(step, step.inputs[2], samplesOf(step) * 3 * p.channels());
  return 0;
}

static void runDiceSumsGrad(const Step& step) {
  const int64_t samples = samplesOf(step), rows = rowsOf(step.inputs[0]) / samples;
  const int64_t sums = 3 * step.inputs[0].channels();
  const float* slopes = step.inputs[2].f32();
  forEachSampleChunk(samples, rows, diceOf(step), [=](int64_t sample, int64_t, LossRows& part) {
    part.target = slopes + sample * sums;
    overlapGrad(part);
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

static size_t prepareDiceOfSumsGrad(const Step& step) {
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

static void runDiceOfSumsGrad(const Step& step) {
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

static size_t prepareOneHot(const Step& step) {
  expectInputs(step, 1, 1);
  expectDType(step, step.output, DType::f32);
  expectFewChannels(step, step.output);
  expectLabels(step, step.inputs[0], rowsOf(step.output));
  return 0;
}

static void runOneHot(const Step& step) {
  LossRows loss = {};
  loss.channels = static_cast<int>(step.output.channels());
  loss.voxels.channels = loss.channels;
  loss.y = step.output.f32();
  setLabels(step.inputs[0], &loss.voxels);
  forEachChunk(rowsOf(step.output), loss, [](const LossRows& part) { oneHot(part); });
}

const KernelTable lossKernels = {
    {"crossEntropy", prepareCrossEntropy, runCrossEntropy},
    {"crossEntropyGrad", prepareCrossEntropyGrad, runCrossEntropyGrad},
    {"maskedMse", prepareMaskedMse, runMaskedMse},
    {"maskedMseGrad", prepareMaskedMseGrad, runMaskedMseGrad},
    {"diceSums", prepareDiceSums, runDiceSums},
    {"diceSumsGrad", prepareDiceSumsGrad, runDiceSumsGrad},
    {"diceOfSums", prepareDiceOfSums, runDiceOfSums},
    {"diceOfSumsGrad", prepareDiceOfSumsGrad, runDiceOfSumsGrad},
    {"oneHot", prepareOneHot, runOneHot},
};

}  // namespace voxgrad::cpu
