// Micro-kernels of convolutions of few voxels. Compiled once per instruction set; see simd.h.
#include "few_voxels_kernels.h"

#include "simd_sum_lanes.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// A function of its own, whose sums the compiler keeps in registers.
#define VOXGRAD_TILE __attribute__((noinline)) void

// Pairs, or filters, of a tile: as many as sums stay in registers.
constexpr int kDotPairs = kLanes == 16 ? 6 : 3, kSpreadPairs = kLanes == 16 ? 8 : 6,
              kSumFilters = kLanes == 16 ? 12 : 6;

// Lanes are channels of the source.
template <int Pairs>
VOXGRAD_TILE dot(const FilterTap& tap, const VoxelPair* pairs) {
  constexpr int kFilters = kForwardFilters;
  const float *sources[Pairs], *weights[kFilters];
  for (int i = 0; i < Pairs; ++i) sources[i] = tap.source + pairs[i].source;
  for (int k = 0; k < kFilters; ++k) weights[k] = tap.weights + (k < tap.filters ? k : 0) * tap.nextFilter;
  vfloat sums[Pairs][kFilters] = {};
  for (int64_t c = 0; c < tap.channels; c += kLanes) {
    vfloat x[Pairs];
#pragma GCC unroll 6
    for (int i = 0; i < Pairs; ++i) x[i] = load(sources[i] + c);
#pragma GCC unroll 4
    for (int k = 0; k < kFilters; ++k) {
      const vfloat w = load(weights[k] + c);
#pragma GCC unroll 6
      for (int i = 0; i < Pairs; ++i) multiplyAdd(&sums[i][k], x[i], w);
    }
  }
  constexpr int kInVector = kLanes / kFilters, kVectors = (Pairs + kInVector - 1) / kInVector;
  float lanes[kVectors * kLanes];
#pragma GCC unroll 6
  for (int v = 0; v < kVectors; ++v) {
    const auto sumOf = [&sums, v ](int i) __attribute__((always_inline)) {
      const int pair = v * kInVector + i / kFilters;
      return sums[pair < Pairs ? pair : 0][i % kFilters];
    };
    store(lanes + v * kLanes, sumLanes<kLanes>(sumOf, 0));
  }
  for (int i = 0; i < Pairs; ++i) {
    float* const output = tap.output + pairs[i].output;
    for (int64_t k = 0; k < tap.filters; ++k) output[k] += lanes[i * kFilters + k];
  }
}

// Lanes are channels of the output.
template <int Pairs, int Vectors>
VOXGRAD_TILE spread(const FilterTap& tap, const VoxelPair* pairs, int64_t c) {
  const float* sources[Pairs];
  float* outputs[Pairs];
  for (int i = 0; i < Pairs; ++i) {
    sources[i] = tap.source + pairs[i].source;
    outputs[i] = tap.output + pairs[i].output + c;
  }
  vfloat sums[Pairs][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Pairs; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sums[i][v] = load(outputs[i] + v * kLanes);
  }
  const float* weights = tap.weights + c;
  for (int64_t k = 0; k < tap.filters; ++k, weights += tap.nextFilter) {
    vfloat w[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) w[v] = load(weights + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < Pairs; ++i) {
      const vfloat x = broadcast(sources[i] + k);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[i][v], x, w[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Pairs; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) store(outputs[i] + v * kLanes, sums[i][v]);
  }
}

// Lanes are channels of the source: two whole vectors, or one that may have fewer.
template <int Filters, int Vectors>
VOXGRAD_TILE sumPairs(const FilterTapGradient& tap, int64_t c) {
  constexpr bool kWhole = Vectors == 2;
  const float *const source = tap.source + c, *const gradient = tap.outputGradient;
  const int64_t left = tap.channels - c;
  vfloat sums[Filters][Vectors] = {};
  for (const VoxelPair *pair = tap.pairs, *const end = pair + tap.count; pair < end; ++pair) {
    vfloat x[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      const float* const from = source + pair->source + v * kLanes;
      x[v] = kWhole ? load(from) : loadFirst(from, left);
    }
#pragma GCC unroll 12
    for (int k = 0; k < Filters; ++k) {
      const vfloat y = broadcast(gradient + pair->output + k);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[k][v], y, x[v]);
    }
  }
#pragma GCC unroll 12
  for (int k = 0; k < Filters; ++k) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      float* const to = tap.weights + k * tap.nextFilter + c + v * kLanes;
      kWhole ? store(to, sums[k][v]) : storeFirst(to, sums[k][v], left);
    }
  }
}

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls run with the Count of `count`, or of Most.
template <int Most, typename Run>
VOXGRAD_INLINE void withCount(int64_t count, Run run) {
  if constexpr (Most > 1) {
    if (count < Most) return withCount<Most - 1>(count, run);
  }
  run(Count<Most>());
}

void forward(const FilterTap& tap) {
  for (int64_t i = 0; i < tap.count; i += kDotPairs) {
    withCount<kDotPairs>(tap.count - i, [&](auto pairs) { dot<decltype(pairs)::value>(tap, tap.pairs + i); });
  }
}

void inputGradient(const FilterTap& tap) {
  for (int64_t c = 0; c < tap.channels; c += 2 * kLanes) {
    for (int64_t i = 0; i < tap.count; i += kSpreadPairs) {
      withCount<kSpreadPairs>(tap.count - i, [&](auto count) {
        constexpr int kPairs = decltype(count)::value;
        const auto own = c + kLanes < tap.channels ? spread<kPairs, 2> : spread<kPairs, 1>;
        own(tap, tap.pairs + i, c);
      });
    }
  }
}

void weightGradient(const FilterTapGradient& tap) {
  withCount<kSumFilters>(tap.filters, [&](auto count) {
    constexpr int kFilters = decltype(count)::value;
    int64_t c = 0;
    for (; c + 2 * kLanes <= tap.channels; c += 2 * kLanes) sumPairs<kFilters, 2>(tap, c);
    for (; c < tap.channels; c += kLanes) sumPairs<kFilters, 1>(tap, c);
  });
}

constexpr FewVoxelsKernels kTable = {forward, inputGradient, weightGradient, kSumFilters};

}  // namespace

const FewVoxelsKernels& fewVoxelsKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
