// Micro-kernels of dense matrix products. Compiled once per instruction set; see simd.h.
#include "dense_kernels.h"

#include "simd_norm.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Accumulators stay in registers: 32 of them on AVX-512, 16 elsewhere, less the weights and a broadcast.
constexpr int kAccumulators = kLanes == 16 ? 24 : 12;
// Neighbours in a group share a pointer; with fewer accumulators smaller groups fill the tile.
constexpr int kGroupVoxels = kLanes == 16 ? 4 : 2;

constexpr int groupLimit(int vectors) { return kAccumulators / (vectors * kGroupVoxels); }

template <int Vectors, int Voxels>
VOXGRAD_INLINE void begin(vfloat (&sums)[Voxels][Vectors], const float* bias) {
#pragma GCC unroll 2
  for (int j = 0; j < Vectors; ++j) {
    const vfloat start = load(bias + j * kLanes);
#pragma GCC unroll 24
    for (int i = 0; i < Voxels; ++i) sums[i][j] = start;
  }
}

template <int Vectors, int Groups, bool Line>
VOXGRAD_INLINE void finish(const vfloat (&sums)[Groups * kGroupVoxels][Vectors], const DenseTile& tile) {
  const int64_t stride = tile.outputStride, channels = tile.channels;
  const auto storeAll = [&](auto storeVector) __attribute__((always_inline)) {
    float* output = tile.places[0].output + tile.outputAt;
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
      if (!Line) output = tile.places[g].output + tile.outputAt;
#pragma GCC unroll 4
      for (int i = 0; i < kGroupVoxels; ++i, output += stride) {
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) storeVector(output, j, sums[g * kGroupVoxels + i][j]);
      }
    }
  };
  if (tile.streams && channels == Vectors * kLanes) {
    storeAll([](float* to, int j, vfloat v) __attribute__((always_inline)) { stream(to + j * kLanes, v); });
  } else if (channels == Vectors * kLanes) {
    storeAll([](float* to, int j, vfloat v) __attribute__((always_inline)) { store(to + j * kLanes, v); });
  } else {
    storeAll([channels](float* to, int j, vfloat v)
                 __attribute__((always_inline)) { storeFirst(to + j * kLanes, v, channels - j * kLanes); });
  }
}

template <int Count>
struct Steps {
  static constexpr int value = Count;
};

template <int Vectors, int Groups, int Group>
VOXGRAD_INLINE void denseStep(vfloat (&sums)[Groups * Group][Vectors], const float* const (&source)[Groups],
                              int64_t stride, int64_t stride3, const float* weights, int step) {
  vfloat w[Vectors];
#pragma GCC unroll 2
  for (int j = 0; j < Vectors; ++j) w[j] = load(weights + (step * Vectors + j) * kLanes);
#pragma GCC unroll 8
  for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 4
    for (int i = 0; i < Group; ++i) {
      const vfloat x = broadcast(source[g] + (i == 3 ? stride3 : i * stride) + step);
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) multiplyAdd(&sums[g * Group + i][j], x, w[j]);
    }
  }
}

template <int Vectors, int Groups, bool Clears>
void dense(const DenseTile& tile) {
  vfloat sums[Groups * kGroupVoxels][Vectors];
  begin<Vectors>(sums, tile.bias);
  const int64_t stride = tile.sourceStride, stride3 = 3 * stride;
  const float* source[Groups];
  for (int g = 0; g < Groups; ++g) source[g] = tile.places[g].source;
  if (tile.placesAhead) {
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 4
      for (int i = 0; i < kGroupVoxels; ++i)
        __builtin_prefetch(tile.placesAhead[g].output + tile.outputAt + i * tile.outputStride, 1);
    }
  }
  const float* weights = tile.weights;
  const auto reduce = [&](auto count) __attribute__((always_inline)) {
    constexpr int steps = decltype(count)::value;
#pragma GCC unroll 4
    for (int step = 0; step < steps; ++step) {
      denseStep<Vectors, Groups, kGroupVoxels>(sums, source, stride, stride3, weights, step);
    }
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) source[g] += steps;
    weights += steps * Vectors * kLanes;
  };
  float* zeros = tile.zeros;
  int64_t zerosLeft = tile.zeroFloats;
  const int64_t rounds = tile.segments * (tile.steps / 4) * kLanes;
  const int64_t zerosAtOnce = Clears && rounds > 0 ? (zerosLeft + rounds - 1) / rounds : 0;
  const bool streams = tile.streams;
  const auto clear = [&] {
    if (streams)
      stream(zeros, vfloat{});
    else
      store(zeros, vfloat{});
    zeros += kLanes;
    zerosLeft -= kLanes;
  };
  for (int64_t segment = 0; segment < tile.segments; ++segment) {
    // While four steps read four floats of each of a group's voxels, as many are fetched ahead, of one voxel
    // after another.
    const int64_t apart = stride - 4;
    int64_t ahead = 0, left = tile.steps;
    for (; left >= 4; left -= 4) {
#pragma GCC unroll 8
      for (int g = 0; g < Groups; ++g) __builtin_prefetch(source[g] + tile.places[g].ahead + ahead);
      ahead = ahead == (kGroupVoxels - 1) * apart ? 0 : ahead + apart;
      if constexpr (Clears) {
        for (int64_t i = 0; i < zerosAtOnce && zerosLeft >= kLanes; ++i) clear();
      }
      reduce(Steps<4>{});
    }
    if (left & 2) reduce(Steps<2>{});
    if (left & 1) reduce(Steps<1>{});
    const DenseJump jump = tile.jumps[segment];
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) source[g] += jump.source;
    weights += jump.weights;
  }
  if constexpr (Clears) {
    while (zerosLeft >= kLanes) clear();
    if (zerosLeft > 0) storeFirst(zeros, vfloat{}, zerosLeft);
  }
  finish<Vectors, Groups, false>(sums, tile);
}

// Taps of a line that share their broadcasts: as many as there are registers for their weights.
constexpr int sharedTaps(int vectors) { return kLanes == 16 ? 5 - vectors : vectors == 1 ? 3 : 1; }

// All voxels are neighbours, one float apart: a source float meets one of them for each tap.
template <int Vectors, int Groups>
void denseLine(const DenseTile& tile) {
  constexpr int kVoxels = Groups * kGroupVoxels, kTaps = sharedTaps(Vectors);
  vfloat sums[kVoxels][Vectors];
  begin<Vectors>(sums, tile.bias);
  const float* source = tile.places[0].source;
  const float* weights = tile.weights;
  const auto reduce = [&](auto count) __attribute__((always_inline)) {
    constexpr int taps = decltype(count)::value;
    vfloat w[taps * Vectors];
#pragma GCC unroll 8
    for (int j = 0; j < taps * Vectors; ++j) w[j] = load(weights + j * kLanes);
#pragma GCC unroll 32
    for (int i = 0; i < kVoxels + taps - 1; ++i) {
      const vfloat x = broadcast(source + i);
#pragma GCC unroll 4
      for (int tap = 0; tap < taps; ++tap) {
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) {
          if (i >= tap && i - tap < kVoxels) multiplyAdd(&sums[i - tap][j], x, w[tap * Vectors + j]);
        }
      }
    }
    source += taps;
    weights += taps * Vectors * kLanes;
  };
  for (int64_t segment = 0; segment < tile.segments; ++segment) {
    int64_t left = tile.steps;
    for (; left >= kTaps; left -= kTaps) reduce(Steps<kTaps>{});
    if constexpr (kTaps > 3) {
      if (left == 3) reduce(Steps<3>{});
    }
    if constexpr (kTaps > 2) {
      if (left == 2) reduce(Steps<2>{});
    }
    if constexpr (kTaps > 1) {
      if (left == 1) reduce(Steps<1>{});
    }
    source += tile.jumps[segment].source;
    weights += tile.jumps[segment].weights;
  }
  finish<Vectors, Groups, true>(sums, tile);
}

// Neighbours that are addressed from one pointer.
constexpr int kSpanGroup = 3;
// Tiles that are computed while lines of the output come from memory. Left to the processor, whether they
// come in time depends on where the stores lie in the code.
constexpr int kTilesAhead = 4;
constexpr int kLineVectors = 16 / kLanes;

template <int Vectors, int Voxels, bool Whole>
VOXGRAD_INLINE void spanTile(const DenseSpan& span, int64_t first) {
  constexpr int kGroups = Voxels / kSpanGroup;
  vfloat sums[Voxels][Vectors];
  begin<Vectors>(sums, span.bias);
  const int64_t stride = span.sourceStride;
  const float* source[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) source[g] = span.source + (first + g * kSpanGroup) * stride;
  const float* weights = span.weights;
  if (span.fetches) {
    const float* ahead = span.output + (first + kTilesAhead * Voxels) * span.outputStride;
#pragma GCC unroll 24
    for (int i = 0; i < Voxels; ++i, ahead += span.outputStride) {
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; j += kLineVectors) __builtin_prefetch(ahead + j * kLanes, 1);
    }
  }
  const auto reduce = [&](auto count) __attribute__((always_inline)) {
    constexpr int steps = decltype(count)::value;
#pragma GCC unroll 4
    for (int step = 0; step < steps; ++step) {
      denseStep<Vectors, kGroups, kSpanGroup>(sums, source, stride, 3 * stride, weights, step);
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) source[g] += steps;
    weights += steps * Vectors * kLanes;
  };
  for (int64_t segment = 0;; ++segment) {
    const float* sourceAhead = source[0] + Voxels * stride;
    int64_t left = span.steps;
    for (; left >= 4; left -= 4) {
#pragma GCC unroll 4
      for (int i = 0; i < Voxels * 4; i += 16) __builtin_prefetch(sourceAhead + i);
      sourceAhead += Voxels * 4;
      reduce(Steps<4>{});
    }
    if (left & 2) reduce(Steps<2>{});
    if (left & 1) reduce(Steps<1>{});
    if (segment == span.lastSegment) break;
    const DenseJump jump = span.jumps[segment];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) source[g] += jump.source;
    weights += jump.weights;
  }
  const int64_t outputStride = span.outputStride, channels = span.channels;
  const bool streams = span.streams;
  float* output = span.output + first * outputStride;
#pragma GCC unroll 24
  for (int i = 0; i < Voxels; ++i, output += outputStride) {
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      if (Whole && streams)
        stream(output + j * kLanes, sums[i][j]);
      else if (Whole)
        store(output + j * kLanes, sums[i][j]);
      else
        storeFirst(output + j * kLanes, sums[i][j], channels - j * kLanes);
    }
  }
}

template <int Vectors>
void denseSpan(const DenseSpan& span) {
  constexpr int kVoxels = kAccumulators / Vectors;
  const bool whole = span.channels == Vectors * kLanes;
  const int64_t last = span.voxels - kVoxels;
  // Behind a tile that spills there are as many voxels as take it up.
  const int64_t lastSpilling = span.spills ? last - (Vectors * kLanes - 1) / span.channels : -1;
  for (int64_t first = 0; first <= last;) {
    if (whole || first <= lastSpilling)
      spanTile<Vectors, kVoxels, true>(span, first);
    else
      spanTile<Vectors, kVoxels, false>(span, first);
    // The last tile overlaps its neighbour where tiles do not divide the span.
    first += first == last ? kVoxels : first + kVoxels > last ? last - first : kVoxels;
  }
}

void normalizeRuns(float* to, int64_t toStride, const float* from, int64_t stride, int64_t voxels,
                   int64_t floats, const SourceNorm& norm) {
  for (int64_t j = 0; j < floats; j += kLanes) {
    const NormVectors own = loadNorm(norm, j);
    for (int64_t voxel = 0; voxel < voxels; ++voxel)
      store(to + voxel * toStride + j, normRelu(loadFirst(from + voxel * stride + j, floats - j), own));
  }
}

// The tables are filled by recursion over the template parameters.
template <int Vectors, int Groups>
constexpr void fillTiles(DenseKernels& table) {
  if constexpr (Groups > 0) {
    table.tile[Vectors - 1][Groups - 1] = dense<Vectors, Groups, false>;
    table.clearing[Vectors - 1][Groups - 1] = dense<Vectors, Groups, true>;
    table.line[Vectors - 1][Groups - 1] = denseLine<Vectors, Groups>;
    fillTiles<Vectors, Groups - 1>(table);
  }
}

constexpr DenseKernels makeTable() {
  DenseKernels table = {};
  table.lanes = kLanes;
  table.groupVoxels = kGroupVoxels;
  table.maxGroups[0] = groupLimit(1);
  table.maxGroups[1] = groupLimit(2);
  fillTiles<1, groupLimit(1)>(table);
  fillTiles<2, groupLimit(2)>(table);
  table.spanVoxels[0] = kAccumulators;
  table.spanVoxels[1] = kAccumulators / 2;
  table.span[0] = denseSpan<1>;
  table.span[1] = denseSpan<2>;
  table.normalizeRuns = normalizeRuns;
  return table;
}

constexpr DenseKernels kTable = makeTable();

}  // namespace

const DenseKernels& denseKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
