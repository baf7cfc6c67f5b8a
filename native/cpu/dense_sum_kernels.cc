// Micro-kernels of sums over voxels, for weight gradients. Compiled once per instruction set; see simd.h.
#include "dense_sum_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Accumulators stay in registers: 32 of them on AVX-512, 16 elsewhere, less a run and a broadcast.
constexpr int kAccumulators = kLanes == 16 ? 24 : 12;
// The stem kernels need the gradient beside their sums and, without broadcasts from memory, one broadcast.
// Where these are instructions of their own, two vectors share them: loads would take longer than products.
constexpr int kStemVectors = kLanes == 16 ? 1 : 2;
constexpr int stemLimit(int vectors) { return kLanes == 16 ? kMaxStemFloats : (15 - vectors) / vectors; }

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

template <int Vectors>
void gatherRuns(float* to, const float* from, int64_t stride, int64_t voxels, int64_t floats) {
  const int64_t last = floats - (Vectors - 1) * kLanes;
  for (int64_t voxel = 0; voxel < voxels; ++voxel) {
#pragma GCC unroll 4
    for (int v = 0; v + 1 < Vectors; ++v) store(to + v * kLanes, load(from + v * kLanes));
    store(to + (Vectors - 1) * kLanes, loadFirst(from + (Vectors - 1) * kLanes, last));
    to += Vectors * kLanes;
    from += stride;
  }
}

template <int Vectors, int Run, int Rows>
void stem(const StemProduct& p) {
  vfloat sums[Rows * Run][Vectors];
#pragma GCC unroll 28
  for (int i = 0; i < Rows * Run; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sums[i][v] = load(p.sums + v * p.sumVector + i * kLanes);
  }
  const float *gradient = p.gradient, *next = p.next;
  for (int64_t line = 0; line < p.lines; ++line) {
    const float* source[Rows];
#pragma GCC unroll 28
    for (int r = 0; r < Rows; ++r) source[r] = p.sources[r] + line * p.sourceLine;
    for (int64_t voxel = p.voxels; voxel > 0; --voxel) {
      vfloat dy[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) dy[v] = load(gradient + v * kLanes);
#pragma GCC unroll 28
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 28
        for (int j = 0; j < Run; ++j) {
          const vfloat x = broadcast(source[r] + j);
#pragma GCC unroll 2
          for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[r * Run + j][v], x, dy[v]);
        }
        source[r] += p.sourceStride;
      }
      __builtin_prefetch(next);
      gradient += Vectors * kLanes;
      next += p.nextStride;
    }
  }
#pragma GCC unroll 28
  for (int i = 0; i < Rows * Run; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) store(p.sums + v * p.sumVector + i * kLanes, sums[i][v]);
  }
}

constexpr int productLimit(int vectors) {
  const int fit = kAccumulators / vectors;
  return fit > kMaxProductChannels ? kMaxProductChannels : fit;
}

// The tables are filled by recursion over the template parameters.
template <int Vectors, int Channels>
constexpr void fillProducts(DenseSumKernels& table) {
  if constexpr (Channels > 0) {
    table.product[Vectors - 1][Channels - 1] = product<Channels, Vectors>;
    fillProducts<Vectors, Channels - 1>(table);
  }
}

template <int Vectors, int Run, int Rows>
constexpr void fillStems(DenseSumKernels& table) {
  if constexpr (Rows > 0) {
    table.stem[Vectors - 1][Run - 1][Rows - 1] = stem<Vectors, Run, Rows>;
    fillStems<Vectors, Run, Rows - 1>(table);
  } else if constexpr (Run > 1) {
    fillStems<Vectors, Run - 1, stemLimit(Vectors) / (Run - 1)>(table);
  }
}

template <int Vectors>
constexpr void fillStems(DenseSumKernels& table) {
  table.maxStemFloats[Vectors - 1] = stemLimit(Vectors);
  fillStems<Vectors, stemLimit(Vectors), 1>(table);
}

constexpr DenseSumKernels makeTable() {
  DenseSumKernels table = {};
  table.lanes = kLanes;
  fillProducts<1, productLimit(1)>(table);
  fillProducts<2, productLimit(2)>(table);
  fillProducts<3, productLimit(3)>(table);
  fillProducts<4, productLimit(4)>(table);
  for (int v = 0; v < kMaxProductVectors; ++v) table.maxProductChannels[v] = productLimit(v + 1);
  table.gatherRuns[0] = gatherRuns<1>;
  table.gatherRuns[1] = gatherRuns<2>;
  table.gatherRuns[2] = gatherRuns<3>;
  table.gatherRuns[3] = gatherRuns<4>;
  table.stemVectors = kStemVectors;
  fillStems<1>(table);
  if constexpr (kStemVectors > 1) fillStems<2>(table);
  return table;
}

constexpr DenseSumKernels kTable = makeTable();

}  // namespace

const DenseSumKernels& denseSumKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
