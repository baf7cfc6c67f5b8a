// Micro-kernels of convolutions to a few channels. Compiled once per instruction set; see simd.h.
#include "thin_kernels.h"

#include "simd_norm.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

struct alignas(64) Vector {
  float lanes[kLanes];
};
constexpr Vector kZeros = {};

// clang-format off
#if VOXGRAD_LANES == 16
#define VOXGRAD_EVEN_QUADS 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define VOXGRAD_ODD_QUADS 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#elif VOXGRAD_LANES == 8
#define VOXGRAD_EVEN_QUADS 0, 1, 2, 3, 8, 9, 10, 11
#define VOXGRAD_ODD_QUADS 4, 5, 6, 7, 12, 13, 14, 15
#else
#define VOXGRAD_EVEN_QUADS VOXGRAD_EVEN
#define VOXGRAD_ODD_QUADS VOXGRAD_ODD
#endif
// clang-format on

// The lanes of each of Count vectors, from `first` on, are summed into the lanes of one, in order: first
// those of four lanes, which every instruction set shuffles fastest, then the quads.
template <int Count, typename Products>
VOXGRAD_INLINE vfloat sumLanes(const Products& products, int first) {
  if constexpr (Count == 1) {
    return products(first);
  } else {
    const vfloat a = sumLanes<Count / 2>(products, first);
    const vfloat b = sumLanes<Count / 2>(products, first + Count / 2);
    if constexpr (Count <= 4) {
      return VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN_INSIDE) + VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD_INSIDE);
    } else {
      return VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN_QUADS) + VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD_QUADS);
    }
  }
}

// Of a pointwise convolution. Consecutive floats of the output, whatever voxel and channel they belong to,
// make a vector: each has a vector of sums, lanes being channels of the source. `Whole`: as many voxels as
// there are lanes follow one another, and channels fill vectors.
template <int Channels, bool Normalized, bool Whole>
void thinVoxels(const ThinRow& row, int64_t first, int64_t end) {
  vfloat bias[Channels] = {};
  for (int i = 0; row.bias && i < Channels * kLanes; ++i)
    bias[i / kLanes][i % kLanes] = row.bias[i % Channels];
  const int64_t reduced = row.reduced;
  const float* const filters = row.weights;
  const SourceNorm coefficients = Normalized ? *row.norm : SourceNorm{};
  // Of two halves in turn: more of the source is on its way from memory than from one place.
  const int64_t blocks = (end - first + kLanes - 1) / kLanes, half = blocks / 2;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t voxel = first + (i < 2 * half ? i % 2 * half + i / 2 : i) * kLanes;
    // What lies behind the last voxel is summed from the last one and not stored.
    const int64_t last = end - 1 - voxel;
    const float* const source = row.source + voxel * reduced;
    float* const output = row.output + voxel * Channels;
#pragma GCC unroll 4
    for (int j = 0; j < Channels; ++j) {
      vfloat sums[kLanes] = {};
      for (int64_t c = 0; c < reduced; c += kLanes) {
        const auto read = [&](const float* from) __attribute__((always_inline)) {
          return Whole ? load(from + c) : loadFirst(from + c, reduced - c);
        };
        vfloat weights[Channels];
#pragma GCC unroll 4
        for (int k = 0; k < Channels; ++k) weights[k] = read(filters + k * reduced);
        const NormVectors norm = Normalized ? loadNorm(coefficients, c) : NormVectors{};
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          const int at = j * kLanes + i, v = at / Channels;
          const vfloat x = read(source + (Whole || v < last ? v : last) * reduced);
          sums[i] += (Normalized ? normRelu(x, norm) : x) * weights[at % Channels];
        }
      }
      const auto sumsOf = [&](int i) __attribute__((always_inline)) { return sums[i]; };
      const vfloat outputs = sumLanes<kLanes>(sumsOf, 0) + bias[j];
      storeFirst(output + j * kLanes, outputs, Whole ? kLanes : (last + 1) * Channels - j * kLanes);
    }
  }
}

template <int Channels, bool Normalized>
void thinRow(const ThinRow& row) {
  const int64_t whole = row.reduced % kLanes == 0 ? row.voxels / kLanes * kLanes : 0;
  thinVoxels<Channels, Normalized, true>(row, 0, whole);
  thinVoxels<Channels, Normalized, false>(row, whole, row.voxels);
}

template <int Channels>
void run(const ThinRow& row) {
  row.norm ? thinRow<Channels, true>(row) : thinRow<Channels, false>(row);
}

// Consecutive voxels of an input gradient: what is loaded of the weights serves all of them.
template <int Channels, int Voxels>
VOXGRAD_INLINE void gradientVoxels(const ThinGradientRow& row, int64_t first) {
  // What comes later is fetched meanwhile: where stores have to wait for memory, that takes longer than all
  // else.
  constexpr int64_t kFloatsAhead = 1024;
  const int64_t produced = row.produced;
  const float *const source = row.source + first * Channels, *weights = row.weights, *bias = row.bias;
  float* const output = row.output + first * produced;
  vfloat x[Voxels][Channels];
#pragma GCC unroll 16
  for (int i = 0; i < Voxels * Channels; ++i) x[i / Channels][i % Channels] = broadcast(source + i);
  const auto storeAll = [&](int64_t c, auto storeVector) __attribute__((always_inline)) {
    vfloat w[Channels];
#pragma GCC unroll 4
    for (int k = 0; k < Channels; ++k, weights += kLanes) w[k] = load(weights);
    const vfloat start = load(bias + c);
#pragma GCC unroll 4
    for (int v = 0; v < Voxels; ++v) {
      vfloat sum = start;
#pragma GCC unroll 4
      for (int k = 0; k < Channels; ++k) sum += x[v][k] * w[k];
      float* const to = output + v * produced + c;
      storeVector(to, sum);
      __builtin_prefetch(to + kFloatsAhead, 0, 2);
    }
  };
  int64_t c = 0;
  for (; c + kLanes <= produced; c += kLanes)
    storeAll(
        c, [](float* to, vfloat v) __attribute__((always_inline)) { store(to, v); });
  const int64_t left = produced - c;
  if (left > 0)
    storeAll(
        c, [left](float* to, vfloat v) __attribute__((always_inline)) { storeFirst(to, v, left); });
}

// Of two halves in turn, as above.
template <int Channels>
void gradientRow(const ThinGradientRow& row) {
  constexpr int kVoxels = Channels > 2 ? 2 : 4;
  const int64_t half = row.voxels / (2 * kVoxels) * kVoxels;
  for (int64_t voxel = 0; voxel < half; voxel += kVoxels) {
    gradientVoxels<Channels, kVoxels>(row, voxel);
    gradientVoxels<Channels, kVoxels>(row, voxel + half);
  }
  for (int64_t voxel = 2 * half; voxel < row.voxels; ++voxel) gradientVoxels<Channels, 1>(row, voxel);
}

// Sums of kLanes / Channels consecutive voxels, lanes being channels of the source.
struct TapSums {
  vfloat sums[kLanes] = {};
};

// Adds what Taps taps read, each source vector to the sums of all voxels that read it. `loadPlace(i)` is what
// the first tap reads for voxel i, and the next tap for voxel i - 1.
template <int Channels, int Taps, typename Load>
VOXGRAD_INLINE void addTaps(TapSums& to, const float* tapWeights, int64_t nextTap, Load loadPlace) {
  constexpr int kVoxels = kLanes / Channels;
  vfloat weights[Taps][Channels];
#pragma GCC unroll 12
  for (int i = 0; i < Taps * Channels; ++i)
    weights[i / Channels][i % Channels] = load(tapWeights + i / Channels * nextTap + i % Channels * kLanes);
#pragma GCC unroll 18
  for (int i = 0; i < kVoxels + Taps - 1; ++i) {
    const vfloat source = loadPlace(i);
#pragma GCC unroll 3
    for (int tap = 0; tap < Taps; ++tap) {
      const int voxel = i - tap;
      if (voxel < 0 || voxel >= kVoxels) continue;
#pragma GCC unroll 4
      for (int k = 0; k < Channels; ++k) multiplyAdd(&to.sums[voxel * Channels + k], source, weights[tap][k]);
    }
  }
}

// Where a voxel of the source is, or zeros outside of the row: without a branch, since rows are short.
VOXGRAD_INLINE const float* placeOf(const ThinTapsRow& row, const float* source, int64_t voxel) {
  const uintptr_t inside = static_cast<uint64_t>(voxel) < static_cast<uint64_t>(row.sourceVoxels);
  const uintptr_t zeros = reinterpret_cast<uintptr_t>(kZeros.lanes);
  const uintptr_t place = reinterpret_cast<uintptr_t>(source) + voxel * row.reduced * sizeof(float);
  return reinterpret_cast<const float*>(zeros + ((place - zeros) & (0 - inside)));
}

// The taps for voxels of the row that begin at the source voxel `at`; channels from `c` on.
template <int Channels, int Taps>
VOXGRAD_INLINE void addRun(TapSums& sums, const ThinTapsRow& row, const ThinTaps& taps, int64_t at,
                           int64_t c) {
  constexpr int kPlaces = kLanes / Channels + Taps - 1;
  const int64_t first = at + taps.place, step = row.sourceStep * row.reduced, channels = row.reduced - c;
  const float* const source = taps.source + c;
  const float* const weights = taps.weights + c / kLanes * row.vectorWeights;
  const auto place = [&](int i) __attribute__((always_inline)) {
    return placeOf(row, source, first + i * row.sourceStep);
  };
  if (first >= 0 && first + (kPlaces - 1) * row.sourceStep < row.sourceVoxels && channels >= kLanes) {
    const float* const from = source + first * row.reduced;
    addTaps<Channels, Taps>(
        sums, weights,
        row.nextTap, [&](int i) __attribute__((always_inline)) { return load(from + i * step); });
  } else if (channels >= kLanes) {
    addTaps<Channels, Taps>(
        sums, weights, row.nextTap, [&](int i) __attribute__((always_inline)) { return load(place(i)); });
  } else {
    Vector copies[kPlaces];
    for (int i = 0; i < kPlaces; ++i) store(copies[i].lanes, loadFirst(place(i), channels));
    addTaps<Channels, Taps>(
        sums, weights,
        row.nextTap, [&](int i) __attribute__((always_inline)) { return load(copies[i].lanes); });
  }
}

// Every output has a vector of sums; those of as many consecutive outputs as there are lanes, summed over
// their lanes, are a vector of the row.
template <int Channels>
void tapsRow(const ThinTapsRow& row) {
  constexpr int kVoxels = kLanes / Channels;
  float biases[kLanes] = {};
  for (int i = 0; row.bias && i < kVoxels * Channels; ++i) biases[i] = row.bias[i % Channels];
  const vfloat bias = load(biases);
  for (int64_t voxel = 0; voxel < row.voxels; voxel += kVoxels) {
    const int64_t at = voxel * row.sourceStep;
    TapSums own;
    for (int64_t c = 0; c < row.reduced; c += kLanes) {
      for (int64_t i = 0; i < row.count; ++i) {
        const ThinTaps& taps = row.taps[i];
        if (taps.count == 1) {
          addRun<Channels, 1>(own, row, taps, at, c);
        } else if (taps.count == 2) {
          addRun<Channels, 2>(own, row, taps, at, c);
        } else {
          addRun<Channels, 3>(own, row, taps, at, c);
        }
      }
    }
    const auto sumsOf = [&](int i) __attribute__((always_inline)) { return own.sums[i]; };
    const vfloat outputs = sumLanes<kLanes>(sumsOf, 0) + bias;
    // Behind the last voxel as many were summed as make a vector.
    const int64_t left = row.voxels - voxel, voxels = left < kVoxels ? left : kVoxels;
    float* const output = row.output + voxel * row.outputStep * Channels;
    if (row.outputStep == 1) {
      storeFirst(output, outputs, voxels * Channels);
      continue;
    }
    float floats[kLanes];
    store(floats, outputs);
    for (int64_t v = 0; v < voxels; ++v) {
      for (int k = 0; k < Channels; ++k) output[v * row.outputStep * Channels + k] = floats[v * Channels + k];
    }
  }
}

constexpr ThinKernels kTable = {kLanes,
                                {run<1>, run<2>, run<3>, run<4>},
                                {gradientRow<1>, gradientRow<2>, gradientRow<3>, gradientRow<4>},
                                {tapsRow<1>, tapsRow<2>, tapsRow<3>, tapsRow<4>}};

}  // namespace

const ThinKernels& thinKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
