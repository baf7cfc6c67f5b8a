// Compiled once per instruction set; see simd.h.
#include "fused_loss_kernels.h"

#include "simd_voxels.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Groups whose sums are added in single precision before they go to the double ones.
constexpr int64_t kBlockGroups = 64;
// Groups whose totals are multiplied before the logarithm is taken: 256^8 is far from the largest float.
constexpr int kLogGroups = 8;

// One label to a lane, -1 where it is no class or beyond the last row.
VOXGRAD_INLINE vint loadLabels(const uint8_t* labels, int64_t rows, int channels) {
  vint label;
  if (rows >= kLanes) {
#if defined(__AVX512F__)
    label = reinterpret_cast<vint>(
        _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(labels))));
#elif defined(__AVX2__)
    label = reinterpret_cast<vint>(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(labels))));
#else
    for (int i = 0; i < kLanes; ++i) label[i] = labels[i];
#endif
  } else {
    for (int i = 0; i < kLanes; ++i) label[i] = i < rows ? labels[i] : -1;
  }
  return label < channels ? label : vint{} - 1;
}

// 1 where the mask is set, else 0; all ones without a mask.
VOXGRAD_INLINE vfloat loadMask(const uint8_t* mask, int64_t rows) {
  return loadLabels(mask, rows, kMostChannels) > 0 ? vfloat{} + 1.0f : vfloat{};
}

// The logits of the group at `row`, zeros behind the last voxel.
template <int C>
VOXGRAD_INLINE void loadLogits(const FusedLossRows& s, int64_t row, vfloat* group) {
  const int count = C > 0 ? C : s.channels;
  const float* x = s.logits + row * count;
  if (s.rows - row >= kLanes) return loadGroup<C>(x, count, group);
  float padded[kLanes * (C > 0 ? C : kMostChannels)] = {};
  memcpy(padded, x, static_cast<size_t>(s.rows - row) * count * sizeof(float));
  loadGroup<C>(padded, count, group);
}

template <int C>
struct Sums {
  static constexpr int classes = C > 0 ? C : kMostChannels;
  vfloat both[classes], mass[classes], truth[classes];
  vfloat likelihood, weight, error, errors;
};

template <int C>
VOXGRAD_INLINE void clear(Sums<C>* sums, int count) {
  for (int c = 0; c < count; ++c) sums->both[c] = sums->mass[c] = sums->truth[c] = vfloat{};
  sums->likelihood = sums->weight = sums->error = sums->errors = vfloat{};
}

// Adds the groups from `begin` to `end`, at most kBlockGroups of them.
template <int C, bool Squared, bool Masked>
VOXGRAD_INLINE void addGroups(const FusedLossRows& s, int64_t begin, int64_t end, Sums<C>* sums) {
  const int count = C > 0 ? C : s.channels;
  const vfloat one = vfloat{} + 1.0f;
  vfloat group[kGroupVectors<C>], product = one;
  int factors = 0;
  for (int64_t row = begin; row < end; row += kLanes) {
    loadLogits<C>(s, row, group);
    const vint label = loadLabels(s.labels + row, s.rows - row, count);
    const vfloat weight = label >= 0 ? one : vfloat{};
    const SoftmaxTotals softmax = exponentials<C>(group, count, 1.0f, label);
    product *= label >= 0 ? softmax.total : one;
    if (++factors == kLogGroups) {
      sums->likelihood += logOf(product);
      product = one;
      factors = 0;
    }
    sums->likelihood -= softmax.picked * weight;
    sums->weight += weight;
    const vfloat scale = weight / softmax.total;
    vfloat masked, error = {};
    if constexpr (Masked) masked = loadMask(s.mask + row, s.rows - row) * weight;
    const auto add = [&](int c) __attribute__((always_inline)) {
      const vfloat p = group[c] * scale;
      const vint hit = label == c;
      sums->both[c] += hit ? p : vfloat{};
      sums->mass[c] += Squared ? p * p : p;
      sums->truth[c] += hit ? one : vfloat{};
      if constexpr (Masked) {
        const vfloat difference = p - (hit ? one : vfloat{});
        error += difference * difference;
      }
    };
    if (s.first == 0) add(0);
#pragma GCC unroll 16
    for (int c = 1; c < count; ++c) add(c);
    if constexpr (Masked) {
      sums->error += masked * error;
      sums->errors += masked;
    }
  }
  sums->likelihood += logOf(product);
}

// Adds the lanes of v to *sum in a fixed order.
VOXGRAD_INLINE void addLanes(vfloat v, double* lanes) {
  for (int i = 0; i < kLanes; ++i) lanes[i] += static_cast<double>(v[i]);
}

template <int C, bool Squared, bool Masked>
void sumsOf(const FusedLossRows& s) {
  const int count = C > 0 ? C : s.channels;
  constexpr int most = 3 * (C > 0 ? C : kMostChannels) + 4;
  double lanes[most][kLanes];
  memset(lanes, 0, sizeof(double) * kLanes * (3 * count + 4));
  Sums<C> sums;
  for (int64_t row = 0; row < s.rows; row += kBlockGroups * kLanes) {
    const int64_t end = s.rows - row < kBlockGroups * kLanes ? s.rows : row + kBlockGroups * kLanes;
    clear(&sums, count);
    addGroups<C, Squared, Masked>(s, row, end, &sums);
    for (int c = 0; c < count; ++c) {
      addLanes(sums.both[c], lanes[3 * c]);
      addLanes(sums.mass[c], lanes[3 * c + 1]);
      addLanes(sums.truth[c], lanes[3 * c + 2]);
    }
    addLanes(sums.likelihood, lanes[3 * count]);
    addLanes(sums.weight, lanes[3 * count + 1]);
    addLanes(sums.error, lanes[3 * count + 2]);
    addLanes(sums.errors, lanes[3 * count + 3]);
  }
  for (int i = 0; i < 3 * count + 4; ++i) {
    double total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += lanes[i][lane];
    // The last two rows of three have two sums each.
    const int at = i < 3 * count + 2 ? i : i + 1;
    s.sums[at] = total;
  }
  s.sums[3 * count + 2] = s.sums[3 * count + 5] = 0;
}

// With t_c the slope of the loss in p_c, the gradient in x_c is p_c (t_c - sum over k of p_k t_k) plus that
// of the negative log-likelihood, l (p_c - g_c).
template <int C, bool Squared, bool Masked>
void gradientOf(const FusedLossRows& s) {
  const int count = C > 0 ? C : s.channels;
  const vfloat one = vfloat{} + 1.0f;
  const float* error = s.slopes + 3 * (count + 1);
  const vfloat likelihood = vfloat{} + s.slopes[3 * count], twice = vfloat{} + 2.0f * error[0];
  vfloat group[kGroupVectors<C>], slope[C > 0 ? C : kMostChannels];
  for (int64_t row = 0; row < s.rows; row += kLanes) {
    loadLogits<C>(s, row, group);
    const vint label = loadLabels(s.labels + row, s.rows - row, count);
    const vfloat weight = label >= 0 ? one : vfloat{};
    const SoftmaxTotals softmax = exponentials<C>(group, count, 1.0f, label);
    const vfloat scale = weight / softmax.total;
    vfloat masked, dot = {};
    if constexpr (Masked) masked = twice * loadMask(s.mask + row, s.rows - row);
    const auto slopeOf = [&](int c) __attribute__((always_inline)) {
      const float both = s.slopes[3 * c], mass = s.slopes[3 * c + 1];
      const vfloat p = group[c];
      const vint hit = label == c;
      slope[c] = (Squared ? 2.0f * mass * p : vfloat{} + mass) + (hit ? vfloat{} + both : vfloat{});
      if constexpr (Masked) slope[c] += masked * (p - (hit ? one : vfloat{}));
      dot += p * slope[c];
    };
#pragma GCC unroll 16
    for (int c = 0; c < count; ++c) group[c] *= scale;
    if (s.first == 0)
      slopeOf(0);
    else
      slope[0] = vfloat{};
#pragma GCC unroll 16
    for (int c = 1; c < count; ++c) slopeOf(c);
    dot = likelihood - dot;
#pragma GCC unroll 16
    for (int c = 0; c < count; ++c)
      group[c] = group[c] * (slope[c] + dot) - (label == c ? likelihood : vfloat{});
    const int64_t left = s.rows - row;
    float* y = s.gradient + row * count;
    if (left >= kLanes) {
      storeGroup<C>(group, count, y);
    } else {
      float padded[kLanes * (C > 0 ? C : kMostChannels)];
      storeGroup<C>(group, count, padded);
      memcpy(y, padded, static_cast<size_t>(left) * count * sizeof(float));
    }
  }
}

template <int C>
void sums(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? sumsOf<C, true, true>(s) : sumsOf<C, false, true>(s);
  return s.squared ? sumsOf<C, true, false>(s) : sumsOf<C, false, false>(s);
}

template <int C>
void gradient(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? gradientOf<C, true, true>(s) : gradientOf<C, false, true>(s);
  return s.squared ? gradientOf<C, true, false>(s) : gradientOf<C, false, false>(s);
}

void sumsByChannels(const FusedLossRows& s) {
  if (s.channels == 2) return sums<2>(s);
  if (s.channels == 3) return sums<3>(s);
  if (s.channels == 4) return sums<4>(s);
  if (s.channels == 14) return sums<14>(s);
  sums<0>(s);
}

void gradientByChannels(const FusedLossRows& s) {
  if (s.channels == 2) return gradient<2>(s);
  if (s.channels == 3) return gradient<3>(s);
  if (s.channels == 4) return gradient<4>(s);
  if (s.channels == 14) return gradient<14>(s);
  gradient<0>(s);
}

}  // namespace

const FusedLossKernels& fusedLossKernels() {
  static const FusedLossKernels kernels = {sumsByChannels, gradientByChannels};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
