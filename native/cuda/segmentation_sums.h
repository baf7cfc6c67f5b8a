// What the fused losses of a segmentation add up over voxels, and the gradient of that.
#pragma once

#include <algorithm>

#include "cuda.h"
#include "rows.h"
#include "sums.h"

namespace voxgrad::cuda {

// The sums of C classes are C + 2 rows of three: for each class the sums of p g, of p or p^2, and of g; then
// the negative log-likelihood and the number of voxels that count; then the squared error and the number of
// voxels that count and are masked.
__host__ __device__ constexpr int64_t segmentationSums(int64_t channels) { return 3 * (channels + 2); }

struct Segmentation {
  const float* logits;
  const uint8_t *labels, *mask;  // the mask may be null
  int first;                     // the first class that has sums of its own and an error
  bool squared;                  // p^2 instead of p

  // -1 where the voxel does not count.
  __device__ int32_t classOf(int64_t voxel, int channels) const {
    const int32_t label = labels[voxel];
    return label < channels ? label : -1;
  }
  __device__ float maskOf(int64_t voxel) const { return mask != nullptr && mask[voxel] != 0 ? 1.0f : 0.0f; }
};

// Logits that lie in memory. What computes them has the same form.
struct StoredLogits {
  const float* at;
  template <class R>
  __device__ void operator()(const R& own, int64_t voxel, typename R::Values& values) const {
    own.load(at, voxel, -INFINITY, values);
  }
};

constexpr int warpsOfSum = sumThreads / warpSize;

__device__ inline double sumOfWarp(double value) {
  for (int bit = warpSize / 2; bit > 0; bit /= 2) value += __shfl_xor_sync(fullWarp, value, bit);
  return value;
}

// What a thread has added up: three sums of each of its channels, and those of the last two rows.
template <class R>
struct SegmentationSums {
  typename R::Values both = {}, mass = {}, truth = {};
  double likelihood = 0;
  float weight = 0, error = 0, errors = 0;

  template <class Logits>
  __device__ void add(const R& own, const Segmentation& s, const Logits& logits, int64_t voxel) {
    typename R::Values p;
    const int32_t label = own.valid() ? s.classOf(voxel, own.channels) : -1;
    logits(own, voxel, p);
    const auto softmax = own.exponentials(1, label, p);
    const float counts = label < 0 ? 0.0f : 1.0f, scale = counts / softmax.total;
    const float masked = s.maskOf(voxel) * counts;
    float squares = 0;
    for (int i = 0; i < R::each; i++) {
      p[i] *= scale;
      if (!own.has(i) || own.channel(i) < s.first) continue;
      const bool hit = own.channel(i) == label;
      const float difference = hit ? p[i] - 1.0f : p[i];
      both[i] += hit ? p[i] : 0.0f;
      mass[i] += s.squared ? p[i] * p[i] : p[i];
      truth[i] += hit ? 1.0f : 0.0f;
      squares += difference * difference;
    }
    if (label >= 0) likelihood -= softmax.picked;
    if (s.mask != nullptr) error += masked * squares;
    if (!own.first()) return;
    if (label >= 0) likelihood += logf(softmax.total);
    weight += counts;
    errors += masked;
  }

  // Adds up the threads of a warp where each has all channels.
  __device__ double joined(double value) const { return R::lanes == 1 ? sumOfWarp(value) : value; }

  // Writes the sums of the warp to its row of shared memory.
  __device__ void share(const R& own, double* row) const {
    const bool writes = R::lanes > 1 || threadIdx.x % warpSize == 0;
    for (int i = 0; i < R::each; i++) {
      const double sums[3] = {joined(both[i]), joined(mass[i]), joined(truth[i])};
      if (writes && own.has(i))
        for (int k = 0; k < 3; k++) row[3 * own.channel(i) + k] = sums[k];
    }
    const double rest[6] = {sumOfWarp(likelihood), sumOfWarp(weight), 0,
                            sumOfWarp(error),      sumOfWarp(errors), 0};
    if (threadIdx.x % warpSize != 0) return;
    for (int k = 0; k < 6; k++) row[3 * own.channels + k] = rest[k];
  }
};

// The sums over the voxels from `begin` to `end`, added up by a block, all of whose threads have to come.
// Takes sharedBytesOfSums of shared memory.
template <class R, class Logits>
__device__ void addVoxels(R& own, const Segmentation& s, const Logits& logits, int64_t begin, int64_t end,
                          double* __restrict__ into) {
  double* shared = sharedMemory<double>();
  SegmentationSums<R> sums;
  own.forEach(begin, end, sumThreads / R::lanes, [&](int64_t voxel) { sums.add(own, s, logits, voxel); });
  __syncthreads();
  const int count = static_cast<int>(segmentationSums(own.channels));
  sums.share(own, shared + threadIdx.x / warpSize * count);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += sumThreads) {
    double total = 0;
    for (int warp = 0; warp < warpsOfSum; warp++) total += shared[warp * count + i];
    into[i] = total;
  }
}

template <class R>
size_t sharedBytesOfSums(int64_t channels) {
  return std::max(R::sharedBytes,
                  static_cast<size_t>(warpsOfSum * segmentationSums(channels)) * sizeof(double));
}

// partial[sample][chunk][sum]
template <class R>
__global__ void __launch_bounds__(sumThreads)
    segmentationSumsKernel(RowChunks all, int channels, Segmentation s, double* __restrict__ partial) {
  R own(channels, blockIdx.x);
  const int64_t before = own.sample * all.rows;
  addVoxels(own, s, StoredLogits{s.logits}, before + all.begin(), before + all.end(),
            partial + (own.sample * all.chunks + blockIdx.y) * segmentationSums(channels));
}

struct SegmentationShape {
  int64_t samples, rows, channels;

  explicit SegmentationShape(const Tensor& logits)
      : samples(logits.shape[0]), rows(rowsOf(logits) / samples), channels(logits.channels()) {}
};

// Of a step with inputs from `first` on of logits and labels.
inline Segmentation segmentationOf(const Step& step, size_t first, const uint8_t* mask) {
  return {step.inputs[first].f32(), step.inputs[first + 1].u8(), mask,
          step.attributes.flag("background") ? 0 : 1, step.attributes.flag("squared")};
}

// With t_c the slope of the loss in p_c, the gradient in x_c is p_c (t_c - sum over k of p_k t_k) plus that
// of the negative log-likelihood, l (p_c - g_c). It may take the place of the logits.
struct SegmentationGradient {
  Segmentation s;
  const float* slopes;
  float* gradient;
  template <class R>
  __device__ void operator()(const R& own, int64_t voxel) const {
    const float* of = slopes + own.sample * segmentationSums(own.channels);
    typename R::Values p, slope;
    const int32_t label = s.classOf(voxel, own.channels);
    const auto softmax = own.exponentials(s.logits, voxel, 1, -1, p);
    const float scale = (label < 0 ? 0.0f : 1.0f) / softmax.total;
    const float likelihood = of[3 * own.channels];
    const float byError = 2.0f * of[3 * own.channels + 3] * s.maskOf(voxel);
    const float once = s.squared ? 0.0f : 1.0f, twice = s.squared ? 2.0f : 0.0f;
    for (int i = 0; i < R::each; i++) {
      const int c = own.channel(i);
      p[i] *= scale;
      slope[i] = 0;
      if (!own.has(i) || c < s.first) continue;
      const float hit = c == label ? 1.0f : 0.0f;
      slope[i] = of[3 * c + 1] * (once + twice * p[i]) + hit * of[3 * c] + byError * (p[i] - hit);
    }
    const float rest = likelihood - own.dot(p, slope);
    for (int i = 0; i < R::each; i++)
      p[i] = p[i] * (slope[i] + rest) - (own.channel(i) == label ? likelihood : 0.0f);
    own.store(p, voxel, gradient);
  }
};

}  // namespace voxgrad::cuda
