// Compiled once per instruction set; see simd.h.
#include "softmax_kernels.h"

#include "simd_voxels.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Groups whose squares are added in single precision before they go to the double sum.
constexpr int kBlockGroups = 64;

// Loads the rows at x and replaces them by their softmax at temperature 1 / factor.
template <int C>
VOXGRAD_INLINE void loadSoftmax(const float* x, int64_t rows, int count, float factor, vfloat* group) {
  loadRows<C>(x, rows, count, group);
  const vfloat scale = 1.0f / exponentials<C>(group, count, factor);
#pragma GCC unroll 16
  for (int c = 0; c < count; ++c) group[c] *= scale;
}

template <int C>
void softmaxOf(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  vfloat group[kGroupVectors<C>];
  for (int64_t row = 0; row < s.rows; row += kLanes) {
    loadSoftmax<C>(s.a + row * count, s.rows - row, count, s.factor, group);
    storeRows<C>(group, s.rows - row, count, s.y + row * count);
  }
}
VOXGRAD_FOR_CHANNELS(softmax, SoftmaxRows)

// The gradient in the logits of a softmax p from the one in p, in place of it.
template <int C>
VOXGRAD_INLINE void backward(const vfloat* p, vfloat* dp, int count, float factor) {
  constexpr int chains = C >= 8 ? 4 : 1;
  vfloat dots[chains] = {};
#pragma GCC unroll 16
  for (int c = 0; c < count; ++c) dots[c % chains] += p[c] * dp[c];
  for (int k = 1; k < chains; ++k) dots[0] += dots[k];
#pragma GCC unroll 16
  for (int c = 0; c < count; ++c) dp[c] = factor * p[c] * (dp[c] - dots[0]);
}

template <int C>
void softmaxGradientOf(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  vfloat p[kGroupVectors<C>], dp[kGroupVectors<C>];
  for (int64_t row = 0; row < s.rows; row += kLanes) {
    loadRows<C>(s.a + row * count, s.rows - row, count, p);
    loadRows<C>(s.b + row * count, s.rows - row, count, dp);
    backward<C>(p, dp, count, s.factor);
    storeRows<C>(dp, s.rows - row, count, s.y + row * count);
  }
}
VOXGRAD_FOR_CHANNELS(softmaxGradient, SoftmaxRows)

template <int C>
void distanceOf(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  vfloat p[kGroupVectors<C>], q[kGroupVectors<C>];
  double total = 0;
  for (int64_t block = 0; block < s.rows; block += kBlockGroups * kLanes) {
    vfloat sum = {};
    for (int64_t row = block; row < s.rows && row < block + kBlockGroups * kLanes; row += kLanes) {
      loadSoftmax<C>(s.a + row * count, s.rows - row, count, 1.0f, p);
      loadSoftmax<C>(s.b + row * count, s.rows - row, count, s.factor, q);
      // Rows of zeros behind the last one differ nowhere.
      vfloat squares = {};
      for (int c = 0; c < count; ++c) squares += (p[c] - q[c]) * (p[c] - q[c]);
      sum += squares;
    }
    for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  }
  *s.sum = total;
}
VOXGRAD_FOR_CHANNELS(distance, SoftmaxRows)

template <int C>
void distanceGradientOf(const SoftmaxRows& s) {
  const int count = C > 0 ? C : s.channels;
  vfloat p[kGroupVectors<C>], q[kGroupVectors<C>];
  for (int64_t row = 0; row < s.rows; row += kLanes) {
    loadSoftmax<C>(s.a + row * count, s.rows - row, count, 1.0f, p);
    loadSoftmax<C>(s.b + row * count, s.rows - row, count, s.factor, q);
    for (int c = 0; c < count; ++c) q[c] = p[c] - q[c];
    backward<C>(p, q, count, 2.0f * s.slope);
    storeRows<C>(q, s.rows - row, count, s.y + row * count);
  }
}
VOXGRAD_FOR_CHANNELS(distanceGradient, SoftmaxRows)

}  // namespace

const SoftmaxRowKernels& softmaxRowKernels() {
  static const SoftmaxRowKernels kernels = {softmax, softmaxGradient, distance, distanceGradient};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
