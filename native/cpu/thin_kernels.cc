// Micro-kernels of pointwise convolutions to a few channels. Compiled once per instruction set; see simd.h.
#include "thin_kernels.h"

#include "simd_norm.h"
#include "simd_sum_lanes.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

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
template <int Channels, int Voxels, bool Fetches>
VOXGRAD_INLINE void gradientVoxels(const ThinGradientRow& row, int64_t first) {
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
      if constexpr (Fetches) __builtin_prefetch(to + kFloatsAhead, 0, 2);
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
template <int Channels, bool Fetches>
void gradientHalves(const ThinGradientRow& row) {
  constexpr int kVoxels = Channels > 2 ? 2 : 4;
  const int64_t half = row.voxels / (2 * kVoxels) * kVoxels;
  for (int64_t voxel = 0; voxel < half; voxel += kVoxels) {
    gradientVoxels<Channels, kVoxels, Fetches>(row, voxel);
    gradientVoxels<Channels, kVoxels, Fetches>(row, voxel + half);
  }
  for (int64_t voxel = 2 * half; voxel < row.voxels; ++voxel) gradientVoxels<Channels, 1, false>(row, voxel);
}

template <int Channels>
void gradientRow(const ThinGradientRow& row) {
  row.fetches ? gradientHalves<Channels, true>(row) : gradientHalves<Channels, false>(row);
}

constexpr ThinKernels kTable = {kLanes,
                                {run<1>, run<2>, run<3>, run<4>},
                                {gradientRow<1>, gradientRow<2>, gradientRow<3>, gradientRow<4>}};

}  // namespace

const ThinKernels& thinKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
