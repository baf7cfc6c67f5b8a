// The losses of a segmentation straight from the logits: sums over voxels in one pass, their gradient in
// another, and the ratios that the sums are made for.
#include "cuda.h"
#include "kernels.h"
#include "rows.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

// The sums of C classes are C + 2 rows of three: for each class the sums of p g, of p or p^2, and of g; then
// the negative log-likelihood and the number of voxels that count; then the squared error and the number of
// voxels that count and are masked.
constexpr int64_t sumsOf(int64_t channels) { return 3 * (channels + 2); }

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

constexpr int warps = sumThreads / warpSize;

__device__ double sumOfWarp(double value) {
  for (int bit = warpSize / 2; bit > 0; bit /= 2) value += __shfl_xor_sync(fullWarp, value, bit);
  return value;
}

// What a thread has added up: three sums of each of its channels, and those of the last two rows.
template <class R>
struct OwnSums {
  typename R::Values both = {}, mass = {}, truth = {};
  double likelihood = 0;
  float weight = 0, error = 0, errors = 0;

  __device__ void add(const R& own, const Segmentation& s, int64_t voxel) {
    typename R::Values p;
    const int32_t label = s.classOf(voxel, own.channels);
    const auto softmax = own.exponentials(s.logits, voxel, 1, label, p);
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

// partial[sample][chunk][sum]
template <class R>
__global__ void __launch_bounds__(sumThreads)
    segmentationSumsKernel(RowChunks all, int channels, Segmentation s, double* __restrict__ partial) {
  double* shared = sharedMemory<double>();
  const R own = R::of(channels, blockIdx.y);
  const int64_t begin = blockIdx.x * all.chunkRows, before = own.sample * all.rows;
  const int64_t end = begin + all.chunkRows < all.rows ? begin + all.chunkRows : all.rows;
  OwnSums<R> sums;
  for (int64_t row = begin + threadIdx.x / R::lanes; row < end; row += sumThreads / R::lanes)
    sums.add(own, s, before + row);
  const int count = static_cast<int>(sumsOf(channels));
  sums.share(own, shared + threadIdx.x / warpSize * count);
  __syncthreads();
  partial += (own.sample * all.chunks + blockIdx.x) * count;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += sumThreads) {
    double total = 0;
    for (int warp = 0; warp < warps; warp++) total += shared[warp * count + i];
    partial[i] = total;
  }
}

struct StoreSums {
  int64_t count;
  float* y;
  __device__ void operator()(int64_t sample, int64_t i, const double (&totals)[1]) const {
    y[sample * count + i] = static_cast<float>(totals[0]);
  }
};

// With t_c the slope of the loss in p_c, the gradient in x_c is p_c (t_c - sum over k of p_k t_k) plus that
// of the negative log-likelihood, l (p_c - g_c). It may take the place of the logits.
struct SegmentationGradient {
  Segmentation s;
  const float* slopes;
  float* gradient;
  template <class R>
  __device__ void operator()(const R& own, int64_t voxel) const {
    const float* of = slopes + own.sample * sumsOf(own.channels);
    typename R::Values p, slope;
    const int32_t label = s.classOf(voxel, own.channels);
    const auto softmax = own.exponentials(s.logits, voxel, 1, -1, p);
    const float scale = (label < 0 ? 0.0f : 1.0f) / softmax.total;
    const float likelihood = of[3 * own.channels];
    const float byError = s.mask == nullptr ? 0.0f : 2.0f * of[3 * own.channels + 3] * s.maskOf(voxel);
    for (int i = 0; i < R::each; i++) {
      const int c = own.channel(i);
      p[i] *= scale;
      slope[i] = 0;
      if (!own.has(i) || c < s.first) continue;
      const bool hit = c == label;
      slope[i] = of[3 * c + 1] * (s.squared ? 2.0f * p[i] : 1.0f) + (hit ? of[3 * c] : 0.0f);
      if (s.mask != nullptr) slope[i] += byError * (hit ? p[i] - 1.0f : p[i]);
    }
    const float rest = likelihood - own.dot(p, slope);
    for (int i = 0; i < R::each; i++)
      p[i] = p[i] * (slope[i] + rest) - (own.channel(i) == label ? likelihood : 0.0f);
    own.store(p, voxel, gradient);
  }
};

struct SegmentationShape {
  int64_t samples, rows, channels;

  explicit SegmentationShape(const Tensor& logits)
      : samples(logits.shape[0]), rows(rowsOf(logits) / samples), channels(logits.channels()) {}
};

// Inputs: logits, labels, in gradients the slopes of the sums, and perhaps a mask.
Segmentation segmentationOf(const Step& step, size_t maskIndex) {
  return {step.inputs[0].f32(), step.inputs[1].u8(),
          step.inputs.size() > maskIndex ? step.inputs[maskIndex].u8() : nullptr,
          step.attributes.flag("background") ? 0 : 1, step.attributes.flag("squared")};
}

size_t sumsWorkspace(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  const int64_t chunks = RowChunks(shape.rows, shape.channels).chunks;
  return static_cast<size_t>(shape.samples * chunks * sumsOf(shape.channels)) * sizeof(double);
}

void runSums(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  const RowChunks all(shape.rows, shape.channels);
  const int64_t count = sumsOf(shape.channels);
  const dim3 blocks(static_cast<unsigned>(all.chunks), static_cast<unsigned>(shape.samples));
  const Grid grid{blocks, sumThreads, static_cast<size_t>(warps * count) * sizeof(double)};
  double* partial = static_cast<double*>(step.workspace);
  byChannels(shape.channels, [&](auto row) {
    launch("segmentationSums", segmentationSumsKernel<decltype(row)>, grid, all,
           static_cast<int>(shape.channels), segmentationOf(step, 2), partial);
  });
  finishSums<1>(shape.samples, all.chunks, count, partial, StoreSums{count, step.output.f32()});
}

void runSumsGradient(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  forEachRow("segmentationSumsGradient", shape.samples, shape.rows, shape.channels,
             SegmentationGradient{segmentationOf(step, 3), step.inputs[2].f32(), step.output.f32()});
}

// The first two sums of a row, added over the samples.
struct RatioRow {
  const float* sums;
  int64_t samples, rows, row;

  explicit RatioRow(const Step& step)
      : sums(step.inputs[0].f32()),
        samples(step.inputs[0].shape[0]),
        rows(step.inputs[0].shape[1]),
        row(step.attributes.integer("row")) {}

  __device__ double total(int k) const {
    double sum = 0;
    for (int64_t sample = 0; sample < samples; sample++) sum += sums[(sample * rows + row) * 3 + k];
    return sum;
  }
};

struct RatioOfSums {
  RatioRow row;
  float* y;
  __device__ void operator()(int64_t) const {
    const double over = row.total(0), under = row.total(1);
    // A NaN among voxels that do not count must show as well.
    *y = static_cast<float>(under > 0 ? over / under : over);
  }
};

// Of the three sums in each row.
struct RatioOfSumsGradient {
  RatioRow row;
  const float* dy;
  float* dx;
  __device__ void operator()(int64_t i) const {
    float* of = dx + 3 * i;
    of[0] = of[1] = of[2] = 0;
    if (i % row.rows != row.row) return;
    const double over = row.total(0), under = row.total(1), slope = under > 0 ? *dy / under : 0;
    of[0] = static_cast<float>(slope);
    of[1] = slope == 0 ? 0.0f : static_cast<float>(-slope * over / under);
  }
};

void runRatio(const Step& step) { forEach("ratioOfSums", 1, RatioOfSums{RatioRow(step), step.output.f32()}); }

void runRatioGradient(const Step& step) {
  const RatioRow row(step);
  forEach("ratioOfSumsGradient", row.samples * row.rows,
          RatioOfSumsGradient{row, step.inputs[1].f32(), step.output.f32()});
}

// The squared distance of softmax(a) from softmax(factor b), voxel by voxel.
struct Distance {
  const float *a, *b;
  float factor;
  template <class R>
  __device__ Weighted operator()(const R& own, int64_t row) const {
    typename R::Values p, q;
    own.softmax(a, row, 1, p);
    own.softmax(b, row, factor, q);
    for (int i = 0; i < R::each; i++) p[i] -= q[i];
    return {own.dot(p, p), 1};
  }
};

struct StoreDistance {
  double count;
  float* y;
  __device__ void operator()(int64_t, int64_t, const double (&totals)[2]) const {
    *y = static_cast<float>(totals[0] / count);
  }
};

// The gradient may take the place of the logits.
struct DistanceGradient {
  const float *a, *b;
  float factor;
  const float* dy;
  double count;
  float* da;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values p, q;
    own.softmax(a, row, 1, p);
    own.softmax(b, row, factor, q);
    for (int i = 0; i < R::each; i++) q[i] = p[i] - q[i];
    own.backward(p, 2.0f * static_cast<float>(*dy / count), q);
    own.store(q, row, da);
  }
};

float factorOf(const Step& step) { return static_cast<float>(1 / step.attributes.number("temperature")); }

size_t distanceWorkspace(const Step& step) {
  return rowSumBytes(rowsOf(step.inputs[0]), step.inputs[0].channels());
}

void runDistance(const Step& step) {
  const Tensor& a = step.inputs[0];
  rowSums("softmaxDistance", rowsOf(a), a.channels(), step.workspace,
          Distance{a.f32(), step.inputs[1].f32(), factorOf(step)},
          StoreDistance{static_cast<double>(a.count()), step.output.f32()});
}

void runDistanceGradient(const Step& step) {
  const Tensor& a = step.inputs[0];
  forEachRow("softmaxDistanceGradient", a,
             DistanceGradient{a.f32(), step.inputs[1].f32(), factorOf(step), step.inputs[2].f32(),
                              static_cast<double>(a.count()), step.output.f32()});
}

}  // namespace

const KernelTable segmentationKernels = {
    kernel("segmentationSums", runSums, sumsWorkspace),
    kernel("segmentationSumsGradient", runSumsGradient),
    kernel("ratioOfSums", runRatio),
    kernel("ratioOfSumsGradient", runRatioGradient),
    kernel("softmaxDistance", runDistance, distanceWorkspace),
    kernel("softmaxDistanceGradient", runDistanceGradient),
};

}  // namespace voxgrad::cuda
