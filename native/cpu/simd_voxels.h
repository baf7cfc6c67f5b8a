// Groups of kLanes voxels with few channels: one vector to a channel, one lane to a voxel. Like simd.h, for
// sources compiled once per instruction set. C is the number of channels, 0 standing for any `channels`.
#pragma once

#include "simd_math.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

// Most channels of a voxel, as in rows.h.
constexpr int kMostChannels = 256;

// Vectors that hold a group: the channels, rounded up so that whole tiles can be turned.
template <int C>
constexpr int kGroupVectors = C > 0 ? (C + kLanes - 1) / kLanes* kLanes : kMostChannels;

template <int... R>
struct LaneList {};
template <int N, int... R>
struct LanesBelow : LanesBelow<N - 1, N - 1, R...> {};
template <int... R>
struct LanesBelow<0, R...> {
  typedef LaneList<R...> type;
};
typedef LanesBelow<kLanes>::type AllLanes;

// Channel c out of C vectors of rows, the elements in the first S vectors being found already.
template <int C, int c, int S, int... R>
VOXGRAD_INLINE vfloat findChannel(const vfloat* rows, vfloat found, LaneList<R...> lanes) {
  if constexpr (S == C) {
    return found;
  } else {
    const vfloat more =
        VOXGRAD_SHUFFLE(found, rows[S], ((R * C + c) / kLanes == S ? kLanes + (R * C + c) % kLanes : R)...);
    return findChannel<C, c, S + 1>(rows, more, lanes);
  }
}

// Vector v of rows of C channels, the elements of the first S channels being found already.
template <int C, int v, int S, int... R>
VOXGRAD_INLINE vfloat findRows(const vfloat* channels, vfloat found, LaneList<R...> lanes) {
  if constexpr (S == C) {
    return found;
  } else {
    const vfloat more = VOXGRAD_SHUFFLE(found, channels[S],
                                        ((v * kLanes + R) % C == S ? kLanes + (v * kLanes + R) / C : R)...);
    return findRows<C, v, S + 1>(channels, more, lanes);
  }
}

template <int C, int c, int... R>
VOXGRAD_INLINE void splitChannels(const vfloat* rows, vfloat* channels, LaneList<R...> lanes) {
  if constexpr (c < C) {
    const vfloat start = VOXGRAD_SHUFFLE(rows[0], rows[1], ((R * C + c) % (2 * kLanes))...);
    channels[c] = findChannel<C, c, 2>(rows, start, lanes);
    splitChannels<C, c + 1>(rows, channels, lanes);
  }
}

template <int C, int v, int... R>
VOXGRAD_INLINE void joinChannels(const vfloat* channels, float* y, LaneList<R...> lanes) {
  if constexpr (v < C) {
    const vfloat start = VOXGRAD_SHUFFLE(
        channels[0], channels[1], (((v * kLanes + R) % C == 1 ? kLanes : 0) + (v * kLanes + R) / C)...);
    store(y + v * kLanes, findRows<C, v, 2>(channels, start, lanes));
    joinChannels<C, v + 1>(channels, y, lanes);
  }
}

// So few channels are sorted faster from whole vectors than by turning tiles.
template <int C>
constexpr bool kFewChannels = C >= 2 && C <= 4;

// group[c] = channel c of the kLanes rows at x.
template <int C>
VOXGRAD_INLINE void loadGroup(const float* x, int channels, vfloat* group) {
  const int count = C > 0 ? C : channels;
  if constexpr (kFewChannels<C>) {
    vfloat rows[C];
    for (int v = 0; v < C; ++v) rows[v] = load(x + v * kLanes);
    splitChannels<C, 0>(rows, group, AllLanes());
  } else {
    for (int tile = 0; tile < count; tile += kLanes) {
      vfloat rows[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        // A row may be read beyond its end where the next rows of the group follow.
        const int at = i * count + tile;
        rows[i] = at + kLanes <= kLanes * count ? load(x + at) : loadFirst(x + at, count - tile);
      }
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) group[tile + i] = rows[i];
    }
  }
}

// The reverse of loadGroup. `group` holds whole tiles and is spent.
template <int C>
VOXGRAD_INLINE void storeGroup(vfloat* group, int channels, float* y) {
  const int count = C > 0 ? C : channels;
  if constexpr (kFewChannels<C>) {
    joinChannels<C, 0>(group, y, AllLanes());
  } else {
    for (int tile = 0; tile < count; tile += kLanes) {
      vfloat rows[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) rows[i] = group[tile + i];
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) group[tile + i] = rows[i];
    }
    // In order, so that what is written beyond the end of a row is replaced by the next one.
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      for (int tile = 0; tile < count; tile += kLanes) {
        const int at = i * count + tile;
        if (at + kLanes <= kLanes * count)
          store(y + at, group[tile + i]);
        else
          storeFirst(y + at, group[tile + i], count - tile);
      }
  }
}

// Floats of a cache line, and how far ahead of their use rows are asked for: further than the processor does
// by itself, which stops at the end of a page.
constexpr int kLineFloats = 16, kAhead = 2048;

// loadGroup of the first `rows` rows, zeros behind them where they are fewer than kLanes.
template <int C>
VOXGRAD_INLINE void loadRows(const float* x, int64_t rows, int channels, vfloat* group) {
  const int count = C > 0 ? C : channels;
  for (int i = 0; i < kLanes * count; i += kLineFloats) __builtin_prefetch(x + kAhead + i);
  if (rows >= kLanes) return loadGroup<C>(x, count, group);
  float padded[kLanes * (C > 0 ? C : kMostChannels)] = {};
  memcpy(padded, x, static_cast<size_t>(rows) * count * sizeof(float));
  loadGroup<C>(padded, count, group);
}

// storeGroup of the first `rows` rows.
template <int C>
VOXGRAD_INLINE void storeRows(vfloat* group, int64_t rows, int channels, float* y) {
  const int count = C > 0 ? C : channels;
  if (rows >= kLanes) return storeGroup<C>(group, count, y);
  float padded[kLanes * (C > 0 ? C : kMostChannels)];
  storeGroup<C>(group, count, padded);
  memcpy(y, padded, static_cast<size_t>(rows) * count * sizeof(float));
}

// 0, 1, 2, ... in memory: comparing with a number from there takes one operation, with a constant two.
struct ClassNumbers {
  int32_t of[kMostChannels];
  constexpr ClassNumbers() : of() {
    for (int c = 0; c < kMostChannels; ++c) of[c] = c;
  }
};
constexpr ClassNumbers kClassNumbers;

// The numbers of classes, so that the compiler does not know them. Comparisons with the numbers of one call
// are not shared with those of another, which would keep more masks than there are registers for.
VOXGRAD_INLINE const int32_t* classNumbers() {
  const int32_t* numbers = kClassNumbers.of;
  __asm__("" : "+r"(numbers));
  return numbers;
}

// Whether the labels are class c; few constants have registers of their own.
template <int C>
VOXGRAD_INLINE vint isClass(vint label, const int32_t* numbers, int c) {
  return kFewChannels<C> ? label == c : label == numbers[c];
}

template <int C>
VOXGRAD_INLINE vfloat largestOf(const vfloat* group, int channels) {
  const int count = C > 0 ? C : channels;
  // Several chains of dependent operations where the compiler can keep them apart in registers.
  constexpr int chains = C >= 8 ? 4 : 1;
  vfloat largest[chains];
  for (int k = 0; k < chains; ++k) largest[k] = group[k];
#pragma GCC unroll 16
  for (int c = chains; c < count; ++c) largest[c % chains] = larger(group[c], largest[c % chains]);
  for (int k = 1; k < chains; ++k) largest[0] = larger(largest[k], largest[0]);
  return largest[0];
}

// What softmax divides by, and the logit of the voxel's label less the largest one.
struct SoftmaxTotals {
  vfloat total, picked;
};

// Replaces the logits of a group by e^((x - largest) / T), 1 / T being `factor`. `picked` is for labels of
// classes, and costs nothing where the caller does not use it.
template <int C>
VOXGRAD_INLINE SoftmaxTotals exponentialsBelow(vfloat* group, vfloat largest, int channels, float factor,
                                               vint label) {
  const int count = C > 0 ? C : channels;
  constexpr int chains = C >= 8 ? 4 : 1;
  vfloat total[chains] = {}, picked[chains] = {};
  const int32_t* numbers = classNumbers();
  constexpr int together = 4;
  int c = 0;
  const auto next = [&](auto some) __attribute__((always_inline)) {
    constexpr int n = some();
    vfloat below[n];
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      below[i] = (group[c + i] - largest) * factor;
      picked[i % chains] = addWhere(isClass<C>(label, numbers, c + i), below[i], picked[i % chains]);
    }
    expOfNegatives<n>(below);
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      group[c + i] = below[i];
      total[i % chains] += below[i];
    }
  };
#pragma GCC unroll 16
  for (; c + together <= count; c += together) next([] { return together; });
  if constexpr (C > 0) {
    constexpr int rest = C % together;
    if constexpr (rest > 0) next([] { return rest; });
  } else {
    for (; c < count; ++c) next([] { return 1; });
  }
  for (int k = 1; k < chains; ++k) {
    total[0] += total[k];
    picked[0] += picked[k];
  }
  return {total[0], picked[0]};
}

// Replaces the logits of a group by what softmax is made of, and gives what it divides by.
template <int C>
VOXGRAD_INLINE vfloat exponentials(vfloat* group, int channels, float factor) {
  if constexpr (C == 2) {
    // One of the two is e^0.
    const vfloat one = vfloat{} + 1.0f, difference = group[1] - group[0];
    const vfloat below = reinterpret_cast<vfloat>(reinterpret_cast<vint>(difference) | INT32_MIN) * factor;
    const vfloat e = expOfNegative(below);
    const vint rises = difference > 0.0f;
    group[0] = rises ? e : one;
    group[1] = rises ? one : e;
    return one + e;
  } else {
    return exponentialsBelow<C>(group, largestOf<C>(group, channels), channels, factor, vint{}).total;
  }
}

// Defines name(part) from the template nameOf<C>(part) for the usual numbers of channels.
#define VOXGRAD_FOR_CHANNELS(name, Part)                \
  void name(const Part& part) {                         \
    if (part.channels == 2) return name##Of<2>(part);   \
    if (part.channels == 3) return name##Of<3>(part);   \
    if (part.channels == 4) return name##Of<4>(part);   \
    if (part.channels == 14) return name##Of<14>(part); \
    name##Of<0>(part);                                  \
  }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
