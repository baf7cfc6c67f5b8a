// Micro-kernels of weight gradients that read their operands in place. Compiled once per instruction set; see
// simd.h.
#include "dense_sum_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Accumulators stay in registers: 32 of them on AVX-512, 16 elsewhere, less a run and a broadcast.
constexpr int kAccumulators = kLanes == 16 ? 24 : 12;
constexpr int kLineVectors = 16 / kLanes;

template <int Channels, int Vectors>
void product(const DenseProduct& p) {
  vfloat sums[Channels][Vectors] = {};
  // Added to at the end, when nothing else is left to wait for.
#pragma GCC unroll 12
  for (int k = 0; k < Channels; ++k) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; v += kLineVectors)
      __builtin_prefetch(p.sums + k * p.sumStride + v * kLanes, 1);
  }
  const float* factors = p.factors;
  for (int64_t line = 0; line < p.lines; ++line) {
    const float *runs = p.runs + line * p.runLine, *next = p.next + line * p.nextLine;
    for (int64_t voxel = 0; voxel < p.voxels; ++voxel) {
      // The fewer of both wait in registers, and the others pass one by one.
      if constexpr (Vectors <= Channels) {
        vfloat run[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) run[v] = load(runs + v * kLanes);
#pragma GCC unroll 12
        for (int k = 0; k < Channels; ++k) {
          const vfloat factor = broadcast(factors + k);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[k][v], factor, run[v]);
        }
      } else {
        vfloat factor[Channels];
#pragma GCC unroll 4
        for (int k = 0; k < Channels; ++k) factor[k] = broadcast(factors + k);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          const vfloat run = load(runs + v * kLanes);
#pragma GCC unroll 4
          for (int k = 0; k < Channels; ++k) multiplyAdd(&sums[k][v], factor[k], run);
        }
      }
      __builtin_prefetch(next);
      __builtin_prefetch(factors + p.factorsAhead);
      next += p.nextStride;
      factors += p.factorStride;
      runs += p.runStride;
    }
  }
  const bool fresh = p.fresh;
  const int64_t pitch = p.sumStride;
  float* to = p.sums;
#pragma GCC unroll 12
  for (int k = 0; k < Channels; ++k, to += pitch) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      float* const sum = to + v * kLanes;
      store(sum, fresh ? sums[k][v] : load(sum) + sums[k][v]);
    }
  }
}

constexpr int productLimit(int vectors) {
  const int fit = kAccumulators / vectors;
  return fit > kMaxProductChannels ? kMaxProductChannels : fit;
}

// The table is filled by recursion over the template parameters.
template <int Vectors, int Channels>
constexpr void fillProducts(DenseSumKernels& table) {
  if constexpr (Channels > 0) {
    table.product[Vectors - 1][Channels - 1] = product<Channels, Vectors>;
    fillProducts<Vectors, Channels - 1>(table);
  }
}

constexpr DenseSumKernels makeTable() {
  DenseSumKernels table = {};
  table.lanes = kLanes;
  table.columnVectors = kLanes == 16 ? 2 : 3;
  fillProducts<1, productLimit(1)>(table);
  fillProducts<2, productLimit(2)>(table);
  fillProducts<3, productLimit(3)>(table);
  fillProducts<4, productLimit(4)>(table);
  for (int v = 0; v < kMaxProductVectors; ++v) table.maxProductChannels[v] = productLimit(v + 1);
  return table;
}

constexpr DenseSumKernels kTable = makeTable();

}  // namespace

const DenseSumKernels& denseSumKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
