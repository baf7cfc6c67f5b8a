// Compiled once per instruction set; see simd.h.
#include "two_class_loss_kernels.h"

#include "simd_sums.h"
#include "simd_voxels.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// A pair of vectors of logits is split by shuffles within 128 bits. Of every four lanes, two are voxels of
// the first vector and two of the second; unpacking within 128 bits brings them back.
// clang-format off
#if VOXGRAD_LANES == 16
#define VOXGRAD_UNPACK_LOW 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define VOXGRAD_UNPACK_HIGH 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#elif VOXGRAD_LANES == 8
#define VOXGRAD_UNPACK_LOW 0, 8, 1, 9, 4, 12, 5, 13
#define VOXGRAD_UNPACK_HIGH 2, 10, 3, 11, 6, 14, 7, 15
#else
#define VOXGRAD_UNPACK_LOW 0, 4, 1, 5
#define VOXGRAD_UNPACK_HIGH 2, 6, 3, 7
#endif
// clang-format on

// kLanes bytes, in the order of split voxels.
VOXGRAD_INLINE vint loadBytes(const uint8_t* p) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i upper = _mm_unpackhi_epi64(bytes, bytes);
  return reinterpret_cast<vint>(_mm512_maskz_cvtepu8_epi32(0xffff, _mm_unpacklo_epi16(bytes, upper)));
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<vint>(_mm256_cvtepu8_epi32(_mm_shufflelo_epi16(bytes, _MM_SHUFFLE(3, 1, 2, 0))));
#else
  return vint{p[0], p[1], p[2], p[3]};
#endif
}

VOXGRAD_INLINE vfloat bitsOf(vint v) { return reinterpret_cast<vfloat>(v); }
VOXGRAD_INLINE vint bitsOf(vfloat v) { return reinterpret_cast<vint>(v); }

// v where the mask is set, else 0, whatever v is.
VOXGRAD_INLINE vfloat where(vint mask, vfloat v) { return bitsOf(mask & bitsOf(v)); }

// Groups whose exponentials are taken before the rest is done with them: all of it in one loop is more than
// there are registers for. Their sums are added in single precision before they go to the double ones, and
// their totals, at most 2, multiplied before the logarithm is taken.
constexpr int64_t kBlockGroups = 120;

struct Block {
  vfloat differences[kBlockGroups];  // x1 - x0
  vfloat e[kBlockGroups];            // exp(-|x1 - x0|)
};

template <int N>
VOXGRAD_INLINE void loadGroups(const float* x, int64_t at, Block* block) {
  vfloat below[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    const float* from = x + 2 * kLanes * (at + i);
    __builtin_prefetch(from + kAhead);
    const vfloat a = load(from), b = load(from + kLanes);
    const vfloat difference =
        VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD_INSIDE) - VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN_INSIDE);
    block->differences[at + i] = difference;
    below[i] = bitsOf(bitsOf(difference) | INT32_MIN);
  }
  expOfNegatives<N>(below);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) block->e[at + i] = below[i];
}

void loadBlock(const float* x, int64_t groups, Block* block) {
  int64_t i = 0;
  for (; i + 4 <= groups; i += 4) loadGroups<4>(x, i, block);
  for (; i < groups; ++i) loadGroups<1>(x, i, block);
}

// What is kept of a voxel from one pass to the other: the smaller of its two probabilities, negative where
// that is the one of the wrong class. A voxel whose label is no class has -0, but NaN stays NaN.
VOXGRAD_INLINE vfloat smaller(vfloat kept) { return bitsOf(bitsOf(kept) & INT32_MAX); }

// The probability of the wrong class.
VOXGRAD_INLINE vfloat wrong(vfloat kept) {
  const vfloat less = smaller(kept);
  return bitsOf(kept) < 0 ? less : 1.0f - less;
}

// One group of rows, of which the last are voxels whose labels are no class.
struct Padded {
  float logits[2 * kLanes] = {}, gradient[2 * kLanes] = {};
  uint8_t labels[kLanes], mask[kLanes] = {};

  explicit Padded(const FusedLossRows& part) {
    const size_t rows = static_cast<size_t>(part.rows);
    memset(labels, 255, sizeof labels);
    memcpy(logits, part.logits, 2 * rows * sizeof(float));
    memcpy(labels, part.labels, rows);
    if (part.mask != nullptr) memcpy(mask, part.mask, rows);
  }
};

// Calls each(part, groups) for parts of whole groups.
template <typename F>
void forEachBlock(const FusedLossRows& s, F each) {
  FusedLossRows part = s;
  for (int64_t left = s.rows; left > 0; left -= part.rows) {
    int64_t groups = left / kLanes;
    if (groups > kBlockGroups) groups = kBlockGroups;
    part.rows = groups > 0 ? groups * kLanes : left;
    if (groups > 0) {
      each(part, groups);
    } else {
      Padded padded(part);
      FusedLossRows last = part;
      last.logits = padded.logits, last.labels = padded.labels, last.mask = padded.mask;
      last.gradient = padded.gradient;
      each(last, 1);
      if (s.gradient != nullptr)
        memcpy(part.gradient, padded.gradient, 2 * static_cast<size_t>(left) * sizeof(float));
    }
    part.logits += 2 * part.rows;
    part.labels += part.rows;
    if (part.mask != nullptr) part.mask += part.rows;
    if (part.gradient != nullptr) part.gradient += 2 * part.rows;
  }
}

struct Sums {
  vfloat both[2] = {}, mass[2] = {}, excess = {}, error = {}, product = vfloat{} + 1.0f;
  // What is counted is subtracted: a mask is -1.
  vint truth[2] = {}, errors = {};
};

struct Totals {
  double both[2][kLanes] = {}, mass[2][kLanes] = {}, truth[2][kLanes] = {};
  double likelihood[kLanes] = {}, error[kLanes] = {}, errors[kLanes] = {};
};

void addTo(Totals* totals, const Sums& sums) {
  for (int c = 0; c < 2; ++c) {
    addLanes(totals->both[c], sums.both[c]);
    addLanes(totals->mass[c], sums.mass[c]);
    addLanes(totals->truth[c], __builtin_convertvector(sums.truth[c], vfloat));
  }
  addLanes(totals->likelihood, sums.excess + logOf(sums.product));
  addLanes(totals->error, sums.error);
  addLanes(totals->errors, __builtin_convertvector(sums.errors, vfloat));
}

// Adds the groups of a block, of both classes or of the second alone. A function by itself, so that the sums
// stay in registers.
template <int First, bool Squared, bool Masked>
__attribute__((noinline)) void addBlock(const FusedLossRows& part, int64_t groups, Block* block, Sums* into) {
  // To the start of the block's part of the gradient, whose logits have all been read.
  float* kept = part.gradient != nullptr ? part.gradient : reinterpret_cast<float*>(block->differences);
  Sums sums;
  for (int64_t i = 0; i < groups; ++i) {
    const vfloat difference = block->differences[i], e = block->e[i];
    const vint label = loadBytes(part.labels + i * kLanes);
    const vint is[2] = {label == 0, label == 1};
    const vint counts = is[0] + is[1];
    const vfloat more = where(counts, vfloat{} + 1.0f) / (1.0f + e), less = e * more;
    // The logit of the wrong class less that of the label.
    const vfloat excess = bitsOf(bitsOf(difference) ^ (is[1] & INT32_MIN));
    sums.excess += where(counts, larger(vfloat{}, excess));
    const vint falls = bitsOf(difference) < 0;
    const vfloat p[2] = {falls ? more : less, falls ? less : more};
    for (int c = First; c < 2; ++c) {
      sums.both[c] += where(is[c], p[c]);
      sums.mass[c] += Squared ? p[c] * p[c] : p[c];
    }
    for (int c = 0; c < 2; ++c) sums.truth[c] -= is[c];
    sums.product += sums.product * where(counts, e);
    const vfloat of = bitsOf(bitsOf(less) | ((bitsOf(excess) | ~counts) & INT32_MIN));
    if constexpr (Masked) {
      const vint masked = loadBytes(part.mask + i * kLanes) != 0;
      sums.error += where(masked, vfloat{} + 1.0f) * wrong(of) * wrong(of);
      sums.errors -= masked & counts;
    }
    store(kept + i * kLanes, of);
  }
  *into = sums;
}

template <int First, bool Squared, bool Masked>
void addRows(const FusedLossRows& s) {
  Totals totals;
  Block block;
  Sums sums;
  forEachBlock(s, [&](const FusedLossRows& part, int64_t groups) {
    loadBlock(part.logits, groups, &block);
    addBlock<First, Squared, Masked>(part, groups, &block, &sums);
    addTo(&totals, sums);
  });
  const double truth[2] = {totalOf(totals.truth[0]), totalOf(totals.truth[1])}, error = totalOf(totals.error);
  // The squared error of one class is that of the other.
  const double rows[] = {totalOf(totals.both[0]),    totalOf(totals.mass[0]), First == 0 ? truth[0] : 0,
                         totalOf(totals.both[1]),    totalOf(totals.mass[1]), truth[1],
                         totalOf(totals.likelihood), truth[0] + truth[1],     0,
                         (2 - First) * error,        totalOf(totals.errors),  0};
  memcpy(s.sums, rows, sizeof rows);
}

// With q the probability of the wrong class, the gradient in its logit is l q for the negative log-likelihood
// and q (1 - q) times the slope of the rest in q, which is linear in q. That in the other logit is its
// negative.
template <bool Squared, bool Masked>
void backward(const FusedLossRows& s) {
  const bool all = s.first == 0;
  const float both[2] = {all ? s.slopes[0] : 0.0f, s.slopes[3]};
  const float mass[2] = {all ? s.slopes[1] : 0.0f, s.slopes[4]};
  const vfloat likelihood = vfloat{} + s.slopes[6];
  const vfloat byWrong = vfloat{} + 2.0f * (mass[0] + mass[1]);
  const vfloat byError = vfloat{} + (all ? 4.0f : 2.0f) * s.slopes[9];
  vfloat constant[2];
  for (int c = 0; c < 2; ++c)
    constant[c] = vfloat{} - (Squared ? 2.0f * mass[c] + both[c] : mass[c] + both[c] - mass[1 - c]);
  FusedLossRows kept = s;
  kept.logits = s.gradient;
  forEachBlock(kept, [&](const FusedLossRows& part, int64_t groups) {
    // The last group first: what is kept of the others lies before its gradient.
    for (int64_t i = groups - 1; i >= 0; --i) {
      const vfloat from = load(part.logits + i * kLanes), q = wrong(from), less = smaller(from);
      const vint isOne = loadBytes(part.labels + i * kLanes) == 1;
      vfloat slope = isOne ? constant[1] : constant[0];
      if constexpr (Squared) slope += byWrong * q;
      if constexpr (Masked) slope += where(loadBytes(part.mask + i * kLanes) != 0, byError) * q;
      const vfloat dWrong = likelihood * q + less * (1.0f - less) * slope;
      const vfloat d1 = bitsOf(bitsOf(dWrong) ^ (isOne & INT32_MIN)), d0 = -d1;
      float* y = part.gradient + 2 * i * kLanes;
      store(y, VOXGRAD_SHUFFLE(d0, d1, VOXGRAD_UNPACK_LOW));
      store(y + kLanes, VOXGRAD_SHUFFLE(d0, d1, VOXGRAD_UNPACK_HIGH));
    }
  });
}

template <int First>
void addRowsFrom(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? addRows<First, true, true>(s) : addRows<First, false, true>(s);
  return s.squared ? addRows<First, true, false>(s) : addRows<First, false, false>(s);
}

}  // namespace

void twoClassLossSums(const FusedLossRows& s) { return s.first == 0 ? addRowsFrom<0>(s) : addRowsFrom<1>(s); }

void twoClassLossGradient(const FusedLossRows& s) {
  if (s.mask != nullptr) return s.squared ? backward<true, true>(s) : backward<false, true>(s);
  return s.squared ? backward<true, false>(s) : backward<false, false>(s);
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
