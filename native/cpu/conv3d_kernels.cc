// Micro-kernels of the convolution family. Compiled once per instruction set; see simd.h.
#include "conv3d_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Accumulators stay in registers: 32 of them on AVX-512, 16 elsewhere, less the weights and a broadcast.
constexpr int kAccumulators = kLanes == 16 ? 24 : 12;

constexpr int groupLimit(int vectors, int groupSize) {
  const int fit = kAccumulators / (vectors * groupSize);
  return fit > kMaxGroups ? kMaxGroups : fit;
}

template <int Reduction>
VOXGRAD_INLINE vfloat broadcastStep(const float* p) {
  return Reduction == 1 ? broadcast(p) : broadcastPair(p);
}

template <int Reduction, int Vectors, int V, int Groups>
VOXGRAD_INLINE void gatherStep(vfloat (&sums)[Groups * V][Vectors], const float* const (&source)[Groups],
                               int64_t stride, int64_t stride3, const float* weights, int step) {
  vfloat w[Vectors];
#pragma GCC unroll 2
  for (int j = 0; j < Vectors; ++j) w[j] = load(weights + (step * Vectors + j) * kLanes);
#pragma GCC unroll 8
  for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      const float* p = source[g] + (i == 3 ? stride3 : i * stride) + step * Reduction;
      const vfloat x = broadcastStep<Reduction>(p);
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) multiplyAdd(&sums[g * V + i][j], x, w[j]);
    }
  }
}

// One reduction step of a group of 4 voxels in which source voxel i meets outputs i, i - 1 and i - 2, so that
// 12 multiply-adds need 6 broadcasts.
template <int Reduction, int Groups>
VOXGRAD_INLINE void sharedStep(vfloat (&sums)[Groups * 4][1], const float* const (&source)[Groups],
                               int64_t stride, int64_t stride3, int64_t stride5, const float* weights,
                               int step) {
  vfloat w[3];
#pragma GCC unroll 3
  for (int tap = 0; tap < 3; ++tap) w[tap] = load(weights + (step * 3 + tap) * kLanes);
#pragma GCC unroll 8
  for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      const float* p = source[g] + (i == 5 ? stride5 : i == 3 ? stride3 : i * stride) + step * Reduction;
      const vfloat x = broadcastStep<Reduction>(p);
#pragma GCC unroll 3
      for (int tap = 0; tap < 3; ++tap) {
        if (i - tap >= 0 && i - tap < 4) multiplyAdd(&sums[g * 4 + i - tap][0], x, w[tap]);
      }
    }
  }
}

template <int Vectors, int V, int Groups>
VOXGRAD_INLINE void addToOutput(const vfloat (&sums)[Groups * V][Vectors], const GatherTile& tile) {
#pragma GCC unroll 8
  for (int g = 0; g < Groups; ++g) {
    float* output = tile.outputs[g];
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i, output += tile.outputStride) {
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) {
        float* const to = output + j * kLanes;
        const int64_t channels = tile.channels - j * kLanes;
        storeFirst(to, loadFirst(to, channels) + sums[g * V + i][j], channels);
      }
    }
  }
}

// Adds the bias, sums the lanes of a channel and stores.
template <int Reduction, int Vectors, int V, int Groups>
VOXGRAD_INLINE void finish(const vfloat (&sums)[Groups * V][Vectors], const GatherTile& tile) {
  vfloat bias[Vectors] = {};
  for (int j = 0; tile.bias && j < Vectors; ++j) bias[j] = load(tile.bias + j * kLanes);
  if (Reduction == 1) {
    if (!tile.bias) return addToOutput<Vectors, V, Groups>(sums, tile);
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
      float* output = tile.outputs[g];
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i, output += tile.outputStride) {
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) {
          storeFirst(output + j * kLanes, sums[g * V + i][j] + bias[j], tile.channels - j * kLanes);
        }
      }
    }
    return;
  }
  constexpr int half = kLanes / 2;
  const bool adjacent = tile.channels == half && tile.outputStride == half;
#pragma GCC unroll 8
  for (int g = 0; g < Groups; ++g) {
    float* output = tile.outputs[g];
#pragma GCC unroll 2
    for (int i = 0; i < V; i += 2, output += 2 * tile.outputStride) {
      const vfloat both = sumPairs(sums[g * V + i][0], sums[g * V + (V > 1 ? i + 1 : i)][0]) + bias[0];
      if (V > 1 && adjacent) {
        store(output, both);
      } else {
        storeFirst(output, both, tile.channels);
        if (V > 1) storeFirst(output + tile.outputStride, upperHalf(both), tile.channels);
      }
    }
  }
}

template <int Reduction, int Vectors, int V, int Groups, bool Shared>
void gather(const GatherTile& tile) {
  constexpr int weightStep = (Shared ? 3 : Vectors) * kLanes;
  constexpr int unroll = Shared ? 2 : 4;
  vfloat sums[Groups * V][Vectors] = {};
  const int64_t stride = tile.sourceStride, stride3 = 3 * stride, stride5 = 5 * stride;
  for (int64_t segment = 0; segment < tile.segments; ++segment) {
    const float* const* const rows = tile.sources + segment * tile.sourceRows;
    const float* source[Groups];
    for (int g = 0; g < Groups; ++g) source[g] = rows[tile.rows[g]] + tile.offsets[g];
    const float* weights = tile.weights[segment];
    const auto advance = [&](int steps) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int g = 0; g < Groups; ++g) source[g] += steps * Reduction;
      weights += steps * weightStep;
    };
    const auto reduce = [&](int step) __attribute__((always_inline)) {
      if constexpr (Shared) {
        sharedStep<Reduction, Groups>(sums, source, stride, stride3, stride5, weights, step);
      } else {
        gatherStep<Reduction, Vectors, V, Groups>(sums, source, stride, stride3, weights, step);
      }
    };
    int64_t left = tile.steps;
    int64_t ahead = tile.ahead;
    for (; left >= unroll; left -= unroll) {
      if constexpr (V > 1 && !Shared) {
#pragma GCC unroll 8
        for (int g = 0; g < Groups; ++g) __builtin_prefetch(source[g] + ahead);
        ahead += unroll * Reduction * (V - 1);
      }
#pragma GCC unroll 4
      for (int step = 0; step < unroll; ++step) reduce(step);
      advance(unroll);
    }
    for (; left > 0; --left) {
      reduce(0);
      advance(1);
    }
  }
  finish<Reduction, Vectors, V, Groups>(sums, tile);
}

void packTransposed(float* dst, int64_t dstStride, const float* src, int64_t srcStride, int64_t outputs,
                    int64_t count) {
  int64_t i = 0;
  if (outputs == kLanes) {
    for (; i + kLanes <= count; i += kLanes) {
      vfloat rows[kLanes];
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane) rows[lane] = load(src + lane * srcStride + i);
      transpose(rows);
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane) store(dst + (i + lane) * dstStride, rows[lane]);
    }
  }
  for (; i < count; ++i) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      dst[i * dstStride + lane] = lane < outputs ? src[lane * srcStride + i] : 0.0f;
    }
  }
}

void packRows(float* dst, int64_t dstStride, const float* src, int64_t srcStride, int64_t outputs,
              int64_t count) {
  for (int64_t i = 0; i < count; ++i) store(dst + i * dstStride, loadFirst(src + i * srcStride, outputs));
}

// The tables are filled by recursion over the template parameters.
template <int Reduction, int Vectors, int V, int Groups, bool Shared = false>
constexpr void fillGroups(GatherKernel (&row)[kMaxGroups]) {
  if constexpr (Groups > 0) {
    row[Groups - 1] = gather<Reduction, Vectors, V, Groups, Shared>;
    fillGroups<Reduction, Vectors, V, Groups - 1, Shared>(row);
  }
}

template <int Reduction, int Vectors>
constexpr void fillGather(Conv3dKernels& table) {
  auto& rows = table.gather[Reduction - 1][Vectors - 1];
  fillGroups<Reduction, Vectors, 1, groupLimit(Vectors, 1)>(rows[0]);
  fillGroups<Reduction, Vectors, 2, groupLimit(Vectors, 2)>(rows[1]);
  fillGroups<Reduction, Vectors, 4, groupLimit(Vectors, 4)>(rows[2]);
  for (int size = 0; size < 3; ++size) {
    table.maxGroups[Vectors - 1][size] = groupLimit(Vectors, kGroupSizes[size]);
  }
}

constexpr Conv3dKernels makeTable() {
  Conv3dKernels table = {};
  table.lanes = kLanes;
  fillGather<1, 1>(table);
  fillGather<1, 2>(table);
  fillGather<2, 1>(table);
  fillGroups<1, 1, 4, groupLimit(1, 4), true>(table.gatherShared[0]);
  fillGroups<2, 1, 4, groupLimit(1, 4), true>(table.gatherShared[1]);
  table.packTransposed = packTransposed;
  table.packRows = packRows;
  return table;
}

constexpr Conv3dKernels kTable = makeTable();

}  // namespace

const Conv3dKernels& conv3dKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
