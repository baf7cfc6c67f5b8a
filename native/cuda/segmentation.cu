// The losses of a segmentation straight from the logits: sums over voxels in one pass, their gradient in
// another, and the ratios that the sums are made for.
#include "../core/loss_terms.h"
#include "cuda.h"
#include "kernels.h"
#include "rows.h"
#include "segmentation_sums.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

struct StoreSums {
  int64_t count;
  float* y;
  __device__ void operator()(int64_t sample, int64_t i, const double (&totals)[1]) const {
    y[sample * count + i] = static_cast<float>(totals[0]);
  }
};

// Inputs: logits, labels, in gradients the slopes of the sums, and perhaps a mask.
const uint8_t* maskOf(const Step& step, size_t index) {
  return step.inputs.size() > index ? step.inputs[index].u8() : nullptr;
}

size_t sumsWorkspace(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  const int64_t chunks = RowChunks(shape.rows, shape.channels).chunks;
  return static_cast<size_t>(shape.samples * chunks * segmentationSums(shape.channels)) * sizeof(double);
}

void runSums(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  const RowChunks all(shape.rows, shape.channels);
  const int64_t count = segmentationSums(shape.channels);
  const dim3 blocks(static_cast<unsigned>(shape.samples), static_cast<unsigned>(all.chunks));
  double* partial = static_cast<double*>(step.workspace);
  byChannels(shape.channels, wholeRows(step), [&](auto kind) {
    using R = typename decltype(kind)::type;
    launch("segmentationSums", segmentationSumsKernel<R>,
           Grid{blocks, sumThreads, sharedBytesOfSums<R>(shape.channels)}, all,
           static_cast<int>(shape.channels), segmentationOf(step, 0, maskOf(step, 2)), partial);
  });
  finishSums<1>(shape.samples, all.chunks, count, partial, StoreSums{count, step.output.f32()});
}

void runSumsGradient(const Step& step) {
  const SegmentationShape shape(step.inputs[0]);
  forEachRow("segmentationSumsGradient", step, shape.samples, shape.rows, shape.channels,
             SegmentationGradient{segmentationOf(step, 0, maskOf(step, 3)), step.inputs[2].f32(),
                                  step.output.f32()});
}

struct RatioOfSums {
  RatioTerm term;
  const float* sums;
  float* y;
  __device__ void operator()(int64_t) const {
    const double over = term.total(sums, 0), under = term.total(sums, 1);
    // A NaN among voxels that do not count must show as well.
    *y = static_cast<float>(under > 0 ? over / under : over);
  }
};

// Of the three sums in each row.
struct RatioOfSumsGradient {
  RatioTerm term;
  const float *sums, *dy;
  float* dx;
  __device__ void operator()(int64_t i) const {
    float of[3];
    term.slopes(sums, i / term.rows, i % term.rows, *dy, of);
    for (int k = 0; k < 3; k++) dx[3 * i + k] = of[k];
  }
};

void runRatio(const Step& step) {
  forEach("ratioOfSums", 1, RatioOfSums{RatioTerm::of(step), step.inputs[0].f32(), step.output.f32()});
}

void runRatioGradient(const Step& step) {
  const RatioTerm term = RatioTerm::of(step);
  forEach("ratioOfSumsGradient", term.samples * term.rows,
          RatioOfSumsGradient{term, step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32()});
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
  float slope;
  float* da;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values p, q;
    own.softmax(a, row, 1, p);
    own.softmax(b, row, factor, q);
    for (int i = 0; i < R::each; i++) q[i] = p[i] - q[i];
    own.backward(p, slope * *dy, q);
    own.store(q, row, da);
  }
};

float factorOf(const Step& step) { return static_cast<float>(1 / step.attributes.number("temperature")); }

size_t distanceWorkspace(const Step& step) {
  return rowSumBytes(rowsOf(step.inputs[0]), step.inputs[0].channels());
}

void runDistance(const Step& step) {
  const Tensor& a = step.inputs[0];
  rowSums("softmaxDistance", step, rowsOf(a), a.channels(),
          Distance{a.f32(), step.inputs[1].f32(), factorOf(step)},
          StoreDistance{static_cast<double>(a.count()), step.output.f32()});
}

void runDistanceGradient(const Step& step) {
  const Tensor& a = step.inputs[0];
  forEachRow("softmaxDistanceGradient", step, a,
             DistanceGradient{a.f32(), step.inputs[1].f32(), factorOf(step), step.inputs[2].f32(),
                              static_cast<float>(2 / static_cast<double>(a.count())), step.output.f32()});
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
