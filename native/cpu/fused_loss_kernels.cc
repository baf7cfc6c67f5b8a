// Compiled once per instruction set; see simd.h.
#include "fused_loss_kernels.h"

#include "simd_sums.h"
#include "simd_voxels.h"
#include "two_class_loss_kernels.h"

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

// 1 where the mask is set, else 0.
VOXGRAD_INLINE vfloat loadMask(const uint8_t* mask, int64_t rows) {
  return loadLabels(mask, rows, kMostChannels) > 0 ? vfloat{} + 1.0f : vfloat{};
}

// What is kept of a group from one pass to the other, its probabilities: class by class where the group is
// whole.
template <int C>
VOXGRAD_INLINE void loadKept(const float* kept, int64_t rows, int channels, vfloat* group) {
  if (rows < kLanes) return loadRows<C>(kept, rows, channels, group);
  for (int i = 0; i < kLanes * (C > 0 ? C : channels); i += kLineFloats)
    __builtin_prefetch(kept + kAhead + i, 1);
  for (int c = 0; c < (C > 0 ? C : channels); ++c) group[c] = load(kept + c * kLanes);
}

template <int C>
VOXGRAD_INLINE void storeKept(vfloat* group, int64_t rows, int channels, float* kept) {
  if (rows < kLanes) return storeRows<C>(group, rows, channels, kept);
  for (int i = 0; i < kLanes * (C > 0 ? C : channels); i += kLineFloats)
    __builtin_prefetch(kept + kAhead + i, 1);
  for (int c = 0; c < (C > 0 ? C : channels); ++c) store(kept + c * kLanes, group[c]);
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

// A group between the two halves of its work.
template <int C>
struct Group {
  vfloat vectors[kGroupVectors<C>];
  vint label;
  vfloat scale, masked;
};

// Adds `groups` groups from row `first` on, their totals to a product: first the softmax of each group, then
// class by class over all of them, so that the sums of many classes go to memory and back less often.
template <int C, int groups, bool Squared, bool Masked>
VOXGRAD_INLINE void addGroups(const FusedLossRows& s, int64_t first, vfloat* product, Sums<C>* sums) {
  const int count = C > 0 ? C : s.channels;
  int64_t row = first;
  const vfloat one = vfloat{} + 1.0f;
  Group<C> run[groups];
  vfloat errors[groups] = {};
  for (int i = 0; i < groups; ++i, row += kLanes) {
    Group<C>& group = run[i];
    loadRows<C>(s.logits + row * count, s.rows - row, count, group.vectors);
    group.label = loadLabels(s.labels + row, s.rows - row, count);
    const vfloat weight = group.label >= 0 ? one : vfloat{};
    const vfloat largest = largestOf<C>(group.vectors, count);
    const SoftmaxTotals softmax = exponentialsBelow<C>(group.vectors, largest, count, 1.0f, group.label);
    *product *= group.label >= 0 ? softmax.total : one;
    sums->likelihood -= group.label >= 0 ? softmax.picked : vfloat{};
    sums->weight += weight;
    group.scale = weight / softmax.total;
    if constexpr (Masked) {
      group.masked = loadMask(s.mask + row, s.rows - row) * weight;
      sums->errors += group.masked;
    }
  }
  const int32_t* numbers = classNumbers();
  const auto add = [&](int c) __attribute__((always_inline)) {
    vfloat both = sums->both[c], mass = sums->mass[c], truth = sums->truth[c];
#pragma GCC unroll 8
    for (int i = 0; i < groups; ++i) {
      const vfloat p = run[i].vectors[c] *= run[i].scale;
      const vint hit = isClass<C>(run[i].label, numbers, c);
      both = addWhere(hit, p, both);
      mass += Squared ? p * p : p;
      truth = addWhere(hit, one, truth);
      if constexpr (Masked) {
        const vfloat difference = hit ? p - one : p;
        errors[i] += difference * difference;
      }
    }
    sums->both[c] = both;
    sums->mass[c] = mass;
    sums->truth[c] = truth;
  };
  if (s.first == 0)
    add(0);
  else
    for (int i = 0; i < groups; ++i) run[i].vectors[0] *= run[i].scale;
#pragma GCC unroll 4
  for (int c = 1; c < count; ++c) add(c);
  if constexpr (Masked)
    for (int i = 0; i < groups; ++i) sums->error += run[i].masked * errors[i];
  if (s.gradient == nullptr) return;
  row = first;
  for (int i = 0; i < groups; ++i, row += kLanes)
    storeKept<C>(run[i].vectors, s.rows - row, count, s.gradient + row * count);
}

template <int C, bool Squared, bool Masked>
void addRows(const FusedLossRows& s) {
  const int count = C > 0 ? C : s.channels;
  // What the sums of few classes fill, registers have room for.
  constexpr int run = kFewChannels<C> ? 1 : 4;
  double totals[3 * (C > 0 ? C : kMostChannels) + 4][kLanes];
  memset(totals, 0, sizeof totals[0] * (3 * count + 4));
  Sums<C> sums;
  for (int64_t block = 0; block < s.rows; block += kBlockGroups * kLanes) {
    const int64_t end = s.rows - block < kBlockGroups * kLanes ? s.rows : block + kBlockGroups * kLanes;
    clear(&sums, count);
    for (int64_t row = block; row < end;) {
      vfloat product = vfloat{} + 1.0f;
      for (int factors = 0; factors < kLogGroups && row < end;) {
        const int groups = end - row >= run * kLanes ? run : 1;
        if (groups == run)
          addGroups<C, run, Squared, Masked>(s, row, &product, &sums);
        else
          addGroups<C, 1, Squared, Masked>(s, row, &product, &sums);
        factors += groups;
        row += groups * kLanes;
      }
      sums.likelihood += logOf(product);
    }
    for (int c = 0; c < count; ++c) {
      addLanes(totals[3 * c], sums.both[c]);
      addLanes(totals[3 * c + 1], sums.mass[c]);
      addLanes(totals[3 * c + 2], sums.truth[c]);
    }
    addLanes(totals[3 * count], sums.likelihood);
    addLanes(totals[3 * count + 1], sums.weight);
    addLanes(totals[3 * count + 2], sums.error);
    addLanes(totals[3 * count + 3], sums.errors);
  }
  for (int i = 0; i < 3 * count + 4; ++i) {
    // The last two rows of three have two sums each.
    s.sums[i < 3 * count + 2 ? i : i + 1] = totalOf(totals[i]);
  }
  s.sums[3 * count + 2] = s.sums[3 * count + 5] = 0;
}

// A group between the steps to its gradient.
template <int C>
struct GradientGroup {
  vfloat vectors[kGroupVectors<C>], slopes[C > 0 ? C : kMostChannels];
  vfloat dot;
  vint label;
};

// With t_c the slope of the loss in p_c, the gradient in x_c is p_c (t_c - sum over k of p_k t_k) plus that
// of the negative log-likelihood, l (p_c - g_c). Every step is taken in several groups before the next one,
// because each ends with operations that wait for one another.
template <int C, bool Squared, bool Masked>
void backward(const FusedLossRows& s) {
  constexpr int most = C > 0 ? C : kMostChannels, chains = C >= 8 ? 4 : 1, run = C > 0 ? 4 : 1;
  const int count = C > 0 ? C : s.channels;
  const vfloat one = vfloat{} + 1.0f;
  float byBoth[most], byMass[most];
  for (int c = 0; c < count; ++c) {
    byBoth[c] = s.slopes[3 * c];
    byMass[c] = s.slopes[3 * c + 1] * (Squared ? 2.0f : 1.0f);
  }
  const vfloat likelihood = vfloat{} + s.slopes[3 * count];
  const vfloat byError = vfloat{} + 2.0f * s.slopes[3 * (count + 1)];
  GradientGroup<C> groups[run];
  for (int64_t first = 0; first < s.rows; first += run * kLanes) {
    const int64_t left = (s.rows - first + kLanes - 1) / kLanes;
    GradientGroup<C>* const end = groups + (left < run ? left : run);
    int64_t row = first;
    for (GradientGroup<C>* g = groups; g < end; ++g, row += kLanes) {
      loadKept<C>(s.gradient + row * count, s.rows - row, count, g->vectors);
      g->label = loadLabels(s.labels + row, s.rows - row, count);
      vfloat masked, dots[chains] = {};
      if constexpr (Masked) masked = byError * loadMask(s.mask + row, s.rows - row);
      const int32_t* numbers = classNumbers();
      const auto slopeOf = [&](int c) __attribute__((always_inline)) {
        const vfloat p = g->vectors[c];
        const vint hit = isClass<C>(g->label, numbers, c);
        vfloat slope = Squared ? byMass[c] * p : vfloat{} + byMass[c];
        slope += hit ? vfloat{} + byBoth[c] : vfloat{};
        if constexpr (Masked) slope += masked * (hit ? p - one : p);
        dots[c % chains] += p * slope;
        g->slopes[c] = slope;
      };
      if (s.first == 0) {
        slopeOf(0);
      } else {
        g->slopes[0] = vfloat{};
      }
#pragma GCC unroll 16
      for (int c = 1; c < count; ++c) slopeOf(c);
      g->dot = likelihood;
      for (int k = 0; k < chains; ++k) g->dot -= dots[k];
    }
    row = first;
    for (GradientGroup<C>* g = groups; g < end; ++g, row += kLanes) {
      const int32_t* numbers = classNumbers();
#pragma GCC unroll 16
      for (int c = 0; c < count; ++c) {
        const vfloat y = g->vectors[c] * (g->slopes[c] + g->dot);
        g->vectors[c] = y - (isClass<C>(g->label, numbers, c) ? likelihood : vfloat{});
      }
      storeRows<C>(g->vectors, s.rows - row, count, s.gradient + row * count);
    }
  }
}

template <int C>
void sumsOf(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? addRows<C, true, true>(s) : addRows<C, false, true>(s);
  return s.squared ? addRows<C, true, false>(s) : addRows<C, false, false>(s);
}
template <>
void sumsOf<2>(const FusedLossRows& s) {
  twoClassLossSums(s);
}
VOXGRAD_FOR_CHANNELS(sums, FusedLossRows)

template <int C>
void gradientOf(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? backward<C, true, true>(s) : backward<C, false, true>(s);
  return s.squared ? backward<C, true, false>(s) : backward<C, false, false>(s);
}
template <>
void gradientOf<2>(const FusedLossRows& s) {
  twoClassLossGradient(s);
}
VOXGRAD_FOR_CHANNELS(gradient, FusedLossRows)

}  // namespace

const FusedLossKernels& fusedLossKernels() {
  static const FusedLossKernels kernels = {sums, gradient};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
