// Micro-kernels of the weight gradients of stems. Compiled once per instruction set; see simd.h.
#include "stem_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// The kernels need the gradient beside their sums and, without broadcasts from memory, one broadcast.
// Where these are instructions of their own, two vectors share them: loads would take longer than products.
constexpr int kStemVectors = kLanes == 16 ? 1 : 2;
constexpr int stemLimit(int vectors) { return kLanes == 16 ? kMaxStemFloats : (15 - vectors) / vectors; }

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

// The tables are filled by recursion over the template parameters.
template <int Vectors, int Run, int Rows>
constexpr void fillStems(StemKernels& table) {
  if constexpr (Rows > 0) {
    table.product[Vectors - 1][Run - 1][Rows - 1] = stem<Vectors, Run, Rows>;
    fillStems<Vectors, Run, Rows - 1>(table);
  } else if constexpr (Run > 1) {
    fillStems<Vectors, Run - 1, stemLimit(Vectors) / (Run - 1)>(table);
  }
}

template <int Vectors>
constexpr void fillStems(StemKernels& table) {
  table.maxFloats[Vectors - 1] = stemLimit(Vectors);
  fillStems<Vectors, stemLimit(Vectors), 1>(table);
}

constexpr StemKernels makeTable() {
  StemKernels table = {};
  table.lanes = kLanes;
  table.vectors = kStemVectors;
  fillStems<1>(table);
  if constexpr (kStemVectors > 1) fillStems<2>(table);
  return table;
}

constexpr StemKernels kTable = makeTable();

}  // namespace

const StemKernels& stemKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
