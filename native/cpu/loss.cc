// Losses over voxels, cross-entropy and squared error with their gradients; one-hot labels.
#include "kernels.h"
#include "voxels.h"

namespace voxgrad::cpu {

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
VOXGRAD_INLINE void entropyGradientBody(const LossRows& s) {
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
VOXGRAD_BY_CHANNELS(entropyGradient, LossRows)

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
    for (int c = 0; c < count; c++) {
      const float share = c < s.first ? 0.0f : 1.0f;
      for (int r = 0; r < blockRows; r++) {
        const float difference = p[c * blockRows + r] - target[c * blockRows + r];
        error[r] += share * difference * difference;
      }
    }
    addRows(weight, error, sums, weights);
  }
  s.sums[0] = sumOf(sums);
  s.sums[1] = sumOf(weights);
}
VOXGRAD_BY_CHANNELS(squaredError, LossRows)

// dp = factor * weight * (p - target)
template <int C>
VOXGRAD_INLINE void squaredErrorGradientBody(const LossRows& s) {
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
VOXGRAD_BY_CHANNELS(squaredErrorGradient, LossRows)

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

static size_t pairBytes(int64_t rows) { return static_cast<size_t>(chunksOf(rows)) * 2 * sizeof(double); }

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
  const int64_t ignore = step.attributes.integer("ignore");
  if (ignore != static_cast<int32_t>(ignore)) refuse(step, "the label to ignore must fit 32 bits");
}

static size_t prepareCrossEntropy(const Step& step) {
  const size_t bytes = prepareVoxelLoss(step, false, false);
  checkWeights(step);
  return bytes;
}

static size_t prepareCrossEntropyGradient(const Step& step) {
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
  loss.voxels.ignore = static_cast<int32_t>(step.attributes.integer("ignore"));
  return loss;
}

static void runCrossEntropy(const Step& step) {
  const Pair total = addPairs(step, rowsOf(step.inputs[0]), crossEntropyOf(step, 2), entropy);
  step.output.f32()[0] = total.weight > 0 ? static_cast<float>(total.sum / total.weight) : 0.0f;
}

static void runCrossEntropyGradient(const Step& step) {
  LossRows loss = crossEntropyOf(step, 3);
  const int64_t rows = rowsOf(step.inputs[0]);
  const double weight = addPairs(step, rows, loss, countVoxels).weight;
  loss.factor = weight > 0 ? static_cast<float>(step.inputs[2].f32()[0] / weight) : 0.0f;
  forEachChunk(rows, loss, [](const LossRows& part) { entropyGradient(part); });
}

static size_t prepareMaskedMse(const Step& step) {
  step.attributes.flag("background");
  return prepareVoxelLoss(step, false, true);
}

static size_t prepareMaskedMseGradient(const Step& step) {
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

static void runMaskedMseGradient(const Step& step) {
  LossRows loss = maskedMseOf(step, 3);
  const int64_t rows = rowsOf(step.inputs[0]);
  const double divisor = divisorOf(loss, addPairs(step, rows, loss, countVoxels).weight);
  loss.factor = divisor > 0 ? static_cast<float>(2.0 * step.inputs[2].f32()[0] / divisor) : 0.0f;
  forEachChunk(rows, loss, [](const LossRows& part) { squaredErrorGradient(part); });
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
  loss.voxels.classes = static_cast<uint32_t>(loss.channels);
  loss.y = step.output.f32();
  setLabels(step.inputs[0], &loss.voxels);
  forEachChunk(rowsOf(step.output), loss, [](const LossRows& part) { oneHot(part); });
}

const KernelTable lossKernels = {
    {"crossEntropy", prepareCrossEntropy, runCrossEntropy},
    {"crossEntropyGradient", prepareCrossEntropyGradient, runCrossEntropyGradient},
    {"maskedMse", prepareMaskedMse, runMaskedMse},
    {"maskedMseGradient", prepareMaskedMseGradient, runMaskedMseGradient},
    {"oneHot", prepareOneHot, runOneHot},
};

}  // namespace voxgrad::cpu
