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

// The lanes of each of Count vectors, from `first` on, are summed into the lanes of one, in order.
template <int Count, typename Products>
VOXGRAD_INLINE vfloat sumLanes(const Products& products, int first) {
  if constexpr (Count == 1) {
    return products(first);
  } else {
    return sumPairs(sumLanes<Count / 2>(products, first), sumLanes<Count / 2>(products, first + Count / 2));
  }
}

// Of a pointwise convolution. Consecutive floats of the output, whatever voxel and channel they belong to,
// make a vector.
template <int Channels, bool Normalized>
void thinRow(const ThinRow& row) {
  vfloat bias[Channels] = {};
  for (int i = 0; row.bias && i < Channels * kLanes; ++i)
    bias[i / kLanes][i % kLanes] = row.bias[i % Channels];
  const int64_t reduced = row.reduced;
  for (int64_t voxel = 0; voxel < row.voxels; voxel += kLanes) {
    // What lies behind the last voxel is summed from the last one and not stored.
    const int64_t last = row.voxels - 1 - voxel;
    const float* const source = row.source + voxel * reduced;
    vfloat sums[Channels];
    for (int j = 0; j < Channels; ++j) sums[j] = bias[j];
    for (int64_t c = 0; c < reduced; c += kLanes) {
      const int64_t count = reduced - c;
      vfloat weights[Channels];
#pragma GCC unroll 3
      for (int k = 0; k < Channels; ++k) weights[k] = loadFirst(row.weights + k * reduced + c, count);
      const NormVectors norm = Normalized ? loadNorm(*row.norm, c) : NormVectors{};
      const auto addAll = [&](auto loadVoxel) __attribute__((always_inline)) {
#pragma GCC unroll 3
        for (int j = 0; j < Channels; ++j) {
          const auto product = [&](int i) __attribute__((always_inline)) {
            const int at = j * kLanes + i;
            const vfloat source = loadVoxel(at / Channels);
            return (Normalized ? normRelu(source, norm) : source) * weights[at % Channels];
          };
          sums[j] += sumLanes<kLanes>(product, 0);
        }
      };
      if (last + 1 >= kLanes && count >= kLanes) {
        addAll([&](int i) __attribute__((always_inline)) { return load(source + i * reduced + c); });
      } else {
        addAll([&](int i) __attribute__((always_inline)) {
          return loadFirst(source + (i < last ? i : last) * reduced + c, count);
        });
      }
    }
    float* const output = row.output + voxel * Channels;
    for (int j = 0; j < Channels; ++j)
      storeFirst(output + j * kLanes, sums[j], (last + 1) * Channels - j * kLanes);
  }
}

template <bool Normalized>
void runAs(const ThinRow& row) {
  if (row.channels == 1) return thinRow<1, Normalized>(row);
  if (row.channels == 2) return thinRow<2, Normalized>(row);
  thinRow<3, Normalized>(row);
}

void run(const ThinRow& row) { row.norm ? runAs<true>(row) : runAs<false>(row); }

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

constexpr ThinKernels kTable = {kLanes, run, {tapsRow<1>, tapsRow<2>, tapsRow<3>, tapsRow<4>}};

}  // namespace

const ThinKernels& thinKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
