// Batch, instance and group normalisation: moments, the affine map, and its gradient in two passes.
#include <cmath>

#include "clones.h"
#include "kernels.h"
#include "lanes.h"

namespace voxgrad::cpu {

// How an activation divides into sets of elements that share their moments. Moments are [sets, groups, 2].
struct Sets {
  int64_t sets, groups, channels;
  // Elements of a set over all channels, and of one group of it.
  int64_t count, groupCount;

  Sets(const Step& step, const Tensor& x, const Tensor& moments) {
    expectDType(step, x, DType::f32);
    expectDType(step, moments, DType::f32);
    expectRank(step, moments, 3);
    if (x.rank < 2 || moments.shape[2] != 2) refuse(step, "moments must be [sets, groups, 2]");
    sets = moments.shape[0];
    groups = moments.shape[1];
    channels = x.channels();
    if ((sets != 1 && sets != x.shape[0]) || channels % groups != 0)
      refuse(step, "moments " + format(moments) + " do not fit " + format(x));
    count = x.count() / sets;
    groupCount = count / groups;
  }

  int64_t groupOf(int64_t channel) const { return channel / (channels / groups); }
  // Mean and variance of a channel of a set.
  const float* momentsOf(const float* moments, int64_t set, int64_t channel) const {
    return moments + (set * groups + groupOf(channel)) * 2;
  }
};

// Reads the epsilon of a step.
static double epsilonOf(const Step& step) {
  const double epsilon = step.attributes.number("epsilon");
  if (!(epsilon >= 0)) refuse(step, "epsilon must not be negative");
  return epsilon;
}

// The squares of floats are exact in double: the variance loses at most (mean / deviation)^2 * 1e-16.
VOXGRAD_CLONES static void addSquares(const float* __restrict x, int64_t count, int64_t width,
                                      double* __restrict sum, double* __restrict square) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
    for (int64_t j = 0; j < n; j++) {
      const double value = x[i + j];
      sum[j] += value;
      square[j] += value * value;
    }
  }
}

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
        addSquares(x + begin, count, lanes.width, sums, sums + lanes.width);
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

// Rows of coefficients in the workspace, one set after the other.
template <int K>
static size_t coefficientBytes(const Sets& sets) {
  return static_cast<size_t>(sets.sets * K * Lanes(sets.channels).width) * sizeof(float);
}

// Fills K rows of lanes for each set with what f(set, channel, coefficients[K]) yields.
template <int K, class F>
static const float* spreadCoefficients(const Sets& sets, const Lanes& lanes, void* workspace, F f) {
  float* rows = static_cast<float*>(workspace);
  for (int64_t set = 0; set < sets.sets; set++, rows += K * lanes.width)
    for (int64_t c = 0; c < lanes.channels; c++) {
      float values[K];
      f(set, c, values);
      for (int k = 0; k < K; k++)
        for (int64_t j = c; j < lanes.width; j += lanes.channels) rows[k * lanes.width + j] = values[k];
    }
  return static_cast<const float*>(workspace);
}

// y may be x.
VOXGRAD_CLONES static void normalizeChunk(const float* x, int64_t count, int64_t width,
                                          const float* __restrict mean, const float* __restrict scale,
                                          const float* __restrict shift, float* y) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++) y[i + j] = (x[i + j] - mean[j]) * scale[j] + shift[j];
  }
}

static size_t prepareNormalize(const Step& step) {
  expectInputs(step, 4, 4);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  for (int i : {2, 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], sets.channels);
  }
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  epsilonOf(step);
  return coefficientBytes<3>(sets);
}

static void runNormalize(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *gamma = step.inputs[2].f32(),
              *beta = step.inputs[3].f32();
  float* y = step.output.f32();
  const float* rows =
      spreadCoefficients<3>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        const float* own = sets.momentsOf(moments, set, c);
        values[0] = own[0];
        values[1] = static_cast<float>(gamma[c] / std::sqrt(own[1] + epsilon));
        values[2] = beta[c];
      });
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const float* row = rows + set * 3 * lanes.width;
    normalizeChunk(x + begin, count, lanes.width, row, row + lanes.width, row + 2 * lanes.width, y + begin);
  });
}

VOXGRAD_CLONES static void addGradients(const float* __restrict x, const float* __restrict dy, int64_t count,
                                        int64_t width, const float* __restrict mean, double* __restrict sum,
                                        double* __restrict product) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
    for (int64_t j = 0; j < n; j++) {
      const float gradient = dy[i + j];
      sum[j] += gradient;
      product[j] += gradient * (x[i + j] - mean[j]);
    }
  }
}

static size_t prepareGradientSums(const Step& step) {
  expectInputs(step, 3, 3);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  expectDType(step, step.inputs[2], DType::f32);
  expectSameShape(step, step.inputs[0], step.inputs[2]);
  expectDType(step, step.output, DType::f32);
  expectCount(step, step.output, sets.sets * sets.channels * 2);
  epsilonOf(step);
  return channelSumBytes(Lanes(sets.channels), sets.sets, sets.count, 2) + coefficientBytes<1>(sets);
}

static void runGradientSums(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *dy = step.inputs[2].f32();
  float* y = step.output.f32();
  char* behindSums = static_cast<char*>(step.workspace) + channelSumBytes(lanes, sets.sets, sets.count, 2);
  const float* means = spreadCoefficients<1>(
      sets, lanes, behindSums,
      [&](int64_t set, int64_t c, float* value) { value[0] = sets.momentsOf(moments, set, c)[0]; });
  channelSums<2>(
      lanes, sets.sets, sets.count, step.workspace,
      [&](int64_t begin, int64_t count, double* sums) {
        const float* mean = means + begin / sets.count * lanes.width;
        addGradients(x + begin, dy + begin, count, lanes.width, mean, sums, sums + lanes.width);
      },
      [&](int64_t set, const double* totals) {
        for (int64_t c = 0; c < sets.channels; c++) {
          float* own = y + (set * sets.channels + c) * 2;
          own[0] = static_cast<float>(totals[c]);
          own[1] = static_cast<float>(totals[lanes.width + c] /
                                      std::sqrt(sets.momentsOf(moments, set, c)[1] + epsilon));
        }
      });
}

static size_t prepareParameterGradient(const Step& step) {
  expectInputs(step, 1, 1);
  const Tensor& sums = step.inputs[0];
  expectDType(step, sums, DType::f32);
  expectDType(step, step.output, DType::f32);
  expectRank(step, sums, 3);
  if (sums.shape[2] != 2) refuse(step, "the sums must be [sets, C, 2]");
  expectCount(step, step.output, sums.shape[1]);
  const int64_t which = step.attributes.integer("which");
  if (which != 0 && which != 1) refuse(step, "which must be 0 or 1");
  return 0;
}

static void runParameterGradient(const Step& step) {
  const int64_t which = step.attributes.integer("which");
  const int64_t sets = step.inputs[0].shape[0], channels = step.inputs[0].shape[1];
  const float* sums = step.inputs[0].f32();
  float* y = step.output.f32();
  for (int64_t c = 0; c < channels; c++) {
    double total = 0;
    for (int64_t set = 0; set < sets; set++) total += sums[(set * channels + c) * 2 + which];
    y[c] = static_cast<float>(total);
  }
}

// dx may be dy.
VOXGRAD_CLONES static void inputGradientChunk(const float* x, const float* dy, int64_t count, int64_t width,
                                              const float* __restrict mean,
                                              const float* __restrict ofGradient,
                                              const float* __restrict ofInput, const float* __restrict shift,
                                              float* dx) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++)
      dx[i + j] = dy[i + j] * ofGradient[j] + ((x[i + j] - mean[j]) * ofInput[j] + shift[j]);
  }
}

// dx may be dy.
VOXGRAD_CLONES static void scaleChunk(const float* dy, int64_t count, int64_t width,
                                      const float* __restrict factor, float* dx) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++) dx[i + j] = dy[i + j] * factor[j];
  }
}

static size_t prepareInputGradient(const Step& step) {
  expectInputs(step, 5, 5);
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  for (const Tensor& input : step.inputs) expectDType(step, input, DType::f32);
  expectCount(step, step.inputs[2], sets.channels);
  expectCount(step, step.inputs[3], sets.sets * sets.channels * 2);
  expectSameShape(step, step.inputs[0], step.inputs[4]);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  epsilonOf(step);
  step.attributes.flag("batch");
  return coefficientBytes<4>(sets);
}

static void runInputGradient(const Step& step) {
  const Sets sets(step, step.inputs[0], step.inputs[1]);
  const Lanes lanes(sets.channels);
  const double epsilon = epsilonOf(step);
  const bool batch = step.attributes.flag("batch");
  const float *x = step.inputs[0].f32(), *moments = step.inputs[1].f32(), *gamma = step.inputs[2].f32(),
              *sums = step.inputs[3].f32(), *dy = step.inputs[4].f32();
  float* dx = step.output.f32();
  const int64_t perGroup = sets.channels / sets.groups;
  // With g = gamma dy and xh the normalised input: dx = (g - mean(g) - xh mean(g xh)) / deviation.
  double meanGradient = 0, meanProduct = 0;
  const float* rows =
      spreadCoefficients<4>(sets, lanes, step.workspace, [&](int64_t set, int64_t c, float* values) {
        if (c % perGroup == 0) {
          meanGradient = meanProduct = 0;
          for (int64_t k = c; k < c + perGroup; k++) {
            const float* own = sums + (set * sets.channels + k) * 2;
            meanGradient += double(gamma[k]) * own[0] / static_cast<double>(sets.groupCount);
            meanProduct += double(gamma[k]) * own[1] / static_cast<double>(sets.groupCount);
          }
        }
        const float* own = sets.momentsOf(moments, set, c);
        const double inverse = 1 / std::sqrt(own[1] + epsilon);
        values[0] = own[0];
        values[1] = static_cast<float>(gamma[c] * inverse);
        values[2] = static_cast<float>(-inverse * inverse * meanProduct);
        values[3] = static_cast<float>(-inverse * meanGradient);
      });
  forEachChunk(lanes, sets.sets, sets.count, [&](int64_t set, int64_t begin, int64_t count, int64_t) {
    const int64_t width = lanes.width;
    const float* row = rows + set * 4 * width;
    if (batch)
      inputGradientChunk(x + begin, dy + begin, count, width, row, row + width, row + 2 * width,
                         row + 3 * width, dx + begin);
    else
      scaleChunk(dy + begin, count, width, row + width, dx + begin);
  });
}

const KernelTable normKernels = {
    {"moments", prepareMoments, runMoments},
    {"unbiasedMoments", prepareUnbiased, runUnbiased},
    {"normalize", prepareNormalize, runNormalize},
    {"normalizeGradientSums", prepareGradientSums, runGradientSums},
    {"normalizeParameterGradient", prepareParameterGradient, runParameterGradient},
    {"normalizeInputGradient", prepareInputGradient, runInputGradient},
};

}  // namespace voxgrad::cpu
