// Micro-kernels of Winograd convolution along W alone. Compiled once per instruction set; see simd.h.
#include "winograd_row_kernels.h"

#include "simd_sums.h"
#include "winograd_row_transforms.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Tiles that share their weights: accumulators fill the registers, less a weight and a broadcast.
constexpr int kGroupTiles = kLanes == 16 ? 4 : 2;

// Tiles across lanes: voxel j of every tile in s[j].
template <int Count>
VOXGRAD_INLINE void gatherTiles(const float* source, vfloat (&s)[Count]) {
  const auto split = [source](int64_t at, vfloat & first, vfloat & second, vfloat & third, vfloat & fourth)
      __attribute__((always_inline)) {
    const float* const from = source + at;
    const vfloat a = load(from), b = load(from + kLanes), c = load(from + 2 * kLanes),
                 d = load(from + 3 * kLanes);
    const vfloat evenLow = VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN),
                 evenHigh = VOXGRAD_SHUFFLE(c, d, VOXGRAD_EVEN);
    const vfloat oddLow = VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD), oddHigh = VOXGRAD_SHUFFLE(c, d, VOXGRAD_ODD);
    first = VOXGRAD_SHUFFLE(evenLow, evenHigh, VOXGRAD_EVEN);
    second = VOXGRAD_SHUFFLE(oddLow, oddHigh, VOXGRAD_EVEN);
    third = VOXGRAD_SHUFFLE(evenLow, evenHigh, VOXGRAD_ODD);
    fourth = VOXGRAD_SHUFFLE(oddLow, oddHigh, VOXGRAD_ODD);
  };
  vfloat seventh, eighth;
  split(0, s[0], s[1], s[2], s[3]);
  split(kRowOutputs, s[4], s[5], seventh, eighth);
  if constexpr (Count > 6) s[6] = seventh;
}

// Three rounds of interleaving bring a tile's floats together.
template <int Frequencies>
void transform(const WinogradRow& row) {
  float* to = row.transformed;
  for (int64_t tile = 0; tile < row.tiles; tile += kLanes, to += kLanes * kRowTile) {
    vfloat s[Frequencies];
    gatherTiles(row.source + tile * kRowOutputs, s);
    transformSource(s);
    vfloat rows[kRowTile];
#pragma GCC unroll 8
    for (int i = 0; i < kRowTile; ++i) rows[i] = i < Frequencies ? s[i] : s[0];
    for (int round = 1; round < kRowTile; round *= 2) interleave(rows);
#pragma GCC unroll 8
    for (int i = 0; i < kRowTile; ++i) store(to + i * kLanes, rows[i]);
  }
}

// Whether the parts of a row of taps are the same tiles, one further on, which are then broadcast once for
// both.
enum class Parts { one, two, neighbours };

// A weight that several tiles share. Without broadcasts from memory the compiler would load it for each of
// them, and the loads are what these products wait for.
VOXGRAD_INLINE vfloat loadShared(const float* weights) {
  vfloat w = load(weights);
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("" : "+x"(w));
#endif
  return w;
}

template <int Frequencies, int Sums>
VOXGRAD_INLINE void multiply(const float* tiles, const float* weights, vfloat (&sums)[kGroupTiles][Sums]) {
#pragma GCC unroll 7
  for (int f = 0; f < Frequencies; ++f) {
    const vfloat w = loadShared(weights + f * kLanes);
#pragma GCC unroll 4
    for (int t = 0; t < kGroupTiles; ++t) multiplyAdd(&sums[t][f], broadcast(tiles + t * kRowTile + f), w);
  }
}

template <int Sums>
VOXGRAD_INLINE void multiplyNeighbours(const float* tiles, const float* weights,
                                       vfloat (&sums)[kGroupTiles][Sums]) {
#pragma GCC unroll 7
  for (int f = 0; f < Sums - 1; ++f) {
    const vfloat first = load(weights + f * kLanes), second = load(weights + (Sums + f) * kLanes);
#pragma GCC unroll 5
    for (int t = 0; t <= kGroupTiles; ++t) {
      const vfloat x = broadcast(tiles + t * kRowTile + f);
      if (t < kGroupTiles) multiplyAdd(&sums[t][f], x, first);
      if (t > 0) multiplyAdd(&sums[t - 1][f], x, second);
    }
  }
  const vfloat last = load(weights + (Sums - 1) * kLanes);
#pragma GCC unroll 4
  for (int t = 0; t < kGroupTiles; ++t)
    multiplyAdd(&sums[t][Sums - 1], broadcast(tiles + t * kRowTile + Sums - 1), last);
}

template <Parts parts, bool Sums>
void productLines(const WinogradRowProduct& p) {
  constexpr int count = parts == Parts::one ? 6 : 7;
  constexpr int products = parts == Parts::one ? count : 2 * count - 1;
  constexpr int64_t kGroup = kGroupTiles * kRowOutputs;
  // What groups to come will store is brought into the second-level cache while sums go on, the same share at
  // every plane of taps: where stores have to wait for memory, that takes a third of the time.
  constexpr int64_t kGroupsAhead = 4;
  const int64_t fetches = p.planes > 0 ? (kGroup + p.planes - 1) / p.planes : 0;
  // In float over the lines of a call, which are few, then in double.
  vfloat sum = {}, square = {};
  for (int64_t line = 0; line < p.lines; ++line) {
    float* output = p.output + line * p.outputLine;
    const float* groupSource = p.tiles + line * p.lineTiles;
    for (int64_t voxel = 0; voxel < p.voxels; voxel += kGroup) {
      const float* ahead = output + kGroupsAhead * kGroup * p.outputVoxel;
      vfloat sums[kGroupTiles][count] = {};
      const float *plane = groupSource, *planeWeights = p.weights;
      for (int64_t i = p.planes; i > 0; --i) {
        const float *source = plane, *weights = planeWeights;
        for (int64_t j = 0; j < fetches; ++j, ahead += p.outputVoxel) __builtin_prefetch(ahead, 0, 2);
        for (int64_t j = p.rows; j > 0; --j) {
          if constexpr (parts == Parts::neighbours) {
            multiplyNeighbours(source, weights, sums);
          } else {
            multiply<count>(source, weights, sums);
            if constexpr (parts == Parts::two)
              multiply<count - 1>(source + p.secondTiles, weights + count * kLanes, sums);
          }
          source += p.rowTiles;
          weights += products * kLanes;
        }
        plane += p.planeTiles;
        planeWeights += p.planeWeights;
      }
      groupSource += kGroupTiles * kRowTile;
      const bool whole = p.channels == kLanes && p.voxels - voxel >= kGroup;
      const bool first = Sums && voxel == 0 && line == 0 && p.sums->voxels == 0;
      const vfloat bias = load(p.bias);
#pragma GCC unroll 4
      for (int t = 0; t < kGroupTiles; ++t) {
        vfloat y[kRowOutputs];
        transformOutput(sums[t], y);
        if (first && t == 0) store(p.sums->shift, y[0] + bias);
        const vfloat shift = Sums ? load(p.sums->shift) : vfloat{};
#pragma GCC unroll 4
        for (int i = 0; i < kRowOutputs; ++i) {
          const int at = t * kRowOutputs + i;
          const vfloat value = y[i] + bias;
          if (whole) {
            store(output + at * p.outputVoxel, value);
          } else {
            if (voxel + at >= p.voxels) break;
            storeFirst(output + at * p.outputVoxel, value, p.channels);
          }
          if (Sums) {
            const vfloat difference = value - shift;
            sum += difference;
            square += difference * difference;
          }
        }
      }
      output += kGroup * p.outputVoxel;
    }
  }
  if (Sums) {
    addLanes(p.sums->totals, sum);
    addLanes(p.sums->totals + kLanes, square);
  }
}

template <Parts parts>
void productOf(const WinogradRowProduct& p) {
  p.sums ? productLines<parts, true>(p) : productLines<parts, false>(p);
}

void productTwo(const WinogradRowProduct& p) {
  // Its sums and two weights leave no register free without AVX-512.
  kLanes == 16 && p.secondTiles == kRowTile ? productOf<Parts::neighbours>(p) : productOf<Parts::two>(p);
}

constexpr WinogradRowKernels kTable = {
    kLanes, kGroupTiles, {transform<6>, transform<7>}, {productOf<Parts::one>, productTwo}};

}  // namespace

const WinogradRowKernels& winogradRowKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
