// Losses over voxels, cross-entropy and squared error with their gradients; one-hot labels.
#include "cuda.h"
#include "kernels.h"
#include "rows.h"
#include "voxels.h"

namespace voxgrad::cuda {
namespace {

// A weight for each class, where there are any.
struct ClassWeights {
  bool any = false;
  float of[256];

  __device__ float weightOf(int32_t label) const { return label < 0 ? 0.0f : any ? of[label] : 1.0f; }
};

// The terms of cross-entropy.
struct Entropy {
  const float* x;
  Voxels voxels;
  ClassWeights weights;
  template <class R>
  __device__ Weighted operator()(const R& own, int64_t row) const {
    typename R::Values powers;
    const int32_t label = voxels.classOf(row);
    const auto softmax = own.exponentials(x, row, 1, label, powers);
    return {logf(softmax.total) - own.sum(softmax.picked), weights.weightOf(label)};
  }
};

// dx = factor * weight * (softmax - one-hot)
struct EntropyGradient {
  const float* x;
  Voxels voxels;
  ClassWeights weights;
  const float* factor;
  float* dx;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values p;
    own.softmax(x, row, 1, p);
    const int32_t label = voxels.classOf(row);
    const float weight = *factor * weights.weightOf(label);
    for (int i = 0; i < R::each; i++) p[i] = weight * (p[i] - (own.channel(i) == label ? 1.0f : 0.0f));
    own.store(p, row, dx);
  }
};

// What is squared: the target is a tensor, or null and the labels are taken. Without the background, the
// first channel has no error.
struct Difference {
  const float *p, *target;
  Voxels voxels;
  bool background;
  // Returns the class of the voxel.
  template <class R>
  __device__ int32_t load(const R& own, int64_t row, typename R::Values& differences) const {
    const int32_t label = voxels.classOf(row);
    own.load(p, row, 0, differences);
    if (target != nullptr) {
      typename R::Values wanted;
      own.load(target, row, 0, wanted);
      for (int i = 0; i < R::each; i++) differences[i] -= wanted[i];
    } else {
      for (int i = 0; i < R::each; i++) differences[i] -= own.channel(i) == label ? 1.0f : 0.0f;
    }
    // A product, so that a NaN shows.
    if (!background && own.lane == 0) differences[0] *= 0.0f;
    return label;
  }
};

struct SquaredError {
  Difference of;
  template <class R>
  __device__ Weighted operator()(const R& own, int64_t row) const {
    typename R::Values differences;
    const int32_t label = of.load(own, row, differences);
    return {own.dot(differences, differences), label < 0 ? 0.0f : 1.0f};
  }
};

// dp = factor * weight * (p - target)
struct SquaredErrorGradient {
  Difference of;
  const float* factor;
  float* dp;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values differences;
    const float weight = of.load(own, row, differences) < 0 ? 0.0f : *factor;
    for (int i = 0; i < R::each; i++) differences[i] *= weight;
    own.store(differences, row, dp);
  }
};

// The weights of voxels.
struct AddWeight {
  Voxels voxels;
  ClassWeights weights;
  __device__ void operator()(int64_t, int64_t row, int64_t, double (&sums)[1]) const {
    sums[0] += weights.weightOf(voxels.classOf(row));
  }
};

struct StoreMean {
  double scale;
  float* y;
  __device__ void operator()(int64_t, int64_t, const double (&totals)[2]) const {
    const double divisor = totals[1] * scale;
    *y = divisor > 0 ? static_cast<float>(totals[0] / divisor) : 0.0f;
  }
};

// What the gradient of a mean is multiplied by.
struct StoreFactor {
  const float* dy;
  double slope, scale;
  float* factor;
  __device__ void operator()(int64_t, int64_t, const double (&totals)[1]) const {
    const double divisor = totals[0] * scale;
    *factor = divisor > 0 ? static_cast<float>(slope * *dy / divisor) : 0.0f;
  }
};

size_t sumsWorkspace(const Step& step) {
  return rowSumBytes(rowsOf(step.inputs[0]), step.inputs[0].channels());
}

SumShape countShape(const Step& step) { return {1, rowsOf(step.inputs[0]), 1}; }

size_t countWorkspace(const Step& step) { return sumBytes<1>(countShape(step)) + sizeof(float); }

// The factor of a gradient, which is found from the weights of all voxels.
const float* factorOf(const Step& step, const Voxels& voxels, const ClassWeights& weights, double slope,
                      double scale) {
  const SumShape shape = countShape(step);
  float* factor = reinterpret_cast<float*>(static_cast<char*>(step.workspace) + sumBytes<1>(shape));
  columnSums<1>("countVoxels", shape, step.workspace, AddWeight{voxels, weights},
                StoreFactor{step.inputs[2].f32(), slope, scale, factor});
  return factor;
}

ClassWeights weightsOf(const Step& step) {
  ClassWeights weights;
  const auto& list = step.attributes.list("weights");
  weights.any = !list.empty();
  for (size_t c = 0; c < 256; c++) weights.of[c] = c < list.size() ? static_cast<float>(list[c]) : 0.0f;
  return weights;
}

Voxels voxelsOf(const Step& step, size_t maskIndex) {
  Voxels voxels(step.inputs[1], step.inputs[0].channels());
  if (step.inputs.size() > maskIndex) voxels.mask = step.inputs[maskIndex].u8();
  return voxels;
}

Voxels entropyVoxels(const Step& step, size_t maskIndex) {
  Voxels voxels = voxelsOf(step, maskIndex);
  voxels.ignore = static_cast<int32_t>(step.attributes.integer("ignore"));
  return voxels;
}

// Inputs: x, labels or target, in gradients dy, and perhaps a mask.
void runCrossEntropy(const Step& step) {
  const Tensor& x = step.inputs[0];
  rowSums("crossEntropy", step, rowsOf(x), x.channels(),
          Entropy{x.f32(), entropyVoxels(step, 2), weightsOf(step)}, StoreMean{1, step.output.f32()});
}

void runCrossEntropyGradient(const Step& step) {
  const Tensor& x = step.inputs[0];
  const Voxels voxels = entropyVoxels(step, 3);
  const ClassWeights weights = weightsOf(step);
  const float* factor = factorOf(step, voxels, weights, 1, 1);
  forEachRow("crossEntropyGradient", step, x,
             EntropyGradient{x.f32(), voxels, weights, factor, step.output.f32()});
}

Difference differenceOf(const Step& step, size_t maskIndex) {
  const Tensor& target = step.inputs[1];
  return {step.inputs[0].f32(), target.dtype == DType::f32 ? target.f32() : nullptr,
          voxelsOf(step, maskIndex), step.attributes.flag("background")};
}

// Squared errors that a voxel counts as.
double errorsOf(const Step& step, const Difference& difference) {
  const int64_t channels = step.inputs[0].channels() - (difference.background ? 0 : 1);
  return difference.voxels.mask != nullptr ? 1.0 : static_cast<double>(channels);
}

void runMaskedMse(const Step& step) {
  const Difference difference = differenceOf(step, 2);
  rowSums("maskedMse", step, rowsOf(step.inputs[0]), step.inputs[0].channels(), SquaredError{difference},
          StoreMean{errorsOf(step, difference), step.output.f32()});
}

void runMaskedMseGradient(const Step& step) {
  const Difference difference = differenceOf(step, 3);
  const float* factor = factorOf(step, difference.voxels, ClassWeights{}, 2, errorsOf(step, difference));
  forEachRow("maskedMseGradient", step, step.inputs[0],
             SquaredErrorGradient{difference, factor, step.output.f32()});
}

struct OneHot {
  Voxels voxels;
  float* y;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    const int32_t label = voxels.classOf(row);
    typename R::Values hits;
    for (int i = 0; i < R::each; i++) hits[i] = own.channel(i) == label ? 1.0f : 0.0f;
    own.store(hits, row, y);
  }
};

void runOneHot(const Step& step) {
  forEachRow("oneHot", step, step.output,
             OneHot{Voxels(step.inputs[0], step.output.channels()), step.output.f32()});
}

}  // namespace

const KernelTable lossKernels = {
    kernel("crossEntropy", runCrossEntropy, sumsWorkspace),
    kernel("crossEntropyGradient", runCrossEntropyGradient, countWorkspace),
    kernel("maskedMse", runMaskedMse, sumsWorkspace),
    kernel("maskedMseGradient", runMaskedMseGradient, countWorkspace),
    kernel("oneHot", runOneHot),
};

}  // namespace voxgrad::cuda
