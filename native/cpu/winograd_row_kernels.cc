// Micro-kernels of Winograd convolution along W alone. Compiled once per instruction set; see simd.h.
#include "winograd_row_kernels.h"

#include "simd_sums.h"
#include "winograd_row_transforms.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// With 32 registers the compiler broadcasts as it multiplies.
VOXGRAD_INLINE void addProduct(vfloat* sum, vfloat x, vfloat w) {
  if constexpr (kLanes == 16)
    *sum += x * w;
  else
    multiplyAdd(sum, x, w);
}

// Tiles that share their weights: with 32 registers all their sums stay in some, less a weight and a
// broadcast. With fewer, and broadcasts that are instructions of their own, those of one point do at a time,
// of two vectors that share the broadcasts, or those of two points: what is loaded then meets two or more.
constexpr int kGroupTiles = 4;
constexpr int kVectors = kLanes == 16 ? 1 : 2;

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

template <int Points, int Vectors, int Sums>
VOXGRAD_INLINE void multiply(const float* tiles, const float* weights, int64_t vectorWeights,
                             vfloat (&sums)[Vectors][kGroupTiles][Sums]) {
#pragma GCC unroll 7
  for (int f = 0; f < Points; ++f) {
    vfloat w[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) w[v] = loadShared(weights + v * vectorWeights + f * kLanes);
#pragma GCC unroll 4
    for (int t = 0; t < kGroupTiles; ++t) {
      const vfloat x = broadcast(tiles + t * kRowTile + f);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) addProduct(&sums[v][t][f], x, w[v]);
    }
  }
}

template <int Sums>
VOXGRAD_INLINE void multiplyNeighbours(const float* tiles, const float* weights,
                                       vfloat (&sums)[1][kGroupTiles][Sums]) {
#pragma GCC unroll 7
  for (int f = 0; f < Sums - 1; ++f) {
    const vfloat first = load(weights + f * kLanes), second = load(weights + (Sums + f) * kLanes);
#pragma GCC unroll 5
    for (int t = 0; t <= kGroupTiles; ++t) {
      const vfloat x = broadcast(tiles + t * kRowTile + f);
      if (t < kGroupTiles) addProduct(&sums[0][t][f], x, first);
      if (t > 0) addProduct(&sums[0][t - 1][f], x, second);
    }
  }
  const vfloat last = load(weights + (Sums - 1) * kLanes);
#pragma GCC unroll 4
  for (int t = 0; t < kGroupTiles; ++t)
    addProduct(&sums[0][t][Sums - 1], broadcast(tiles + t * kRowTile + Sums - 1), last);
}

// The sums of Points points from `point` on, of a group of tiles; not all sums of a group may stay in
// registers. The second part of a row of taps has only the first SecondPoints of them. Every plane of taps
// begins with a call of `fetch`.
template <Parts parts, int Points, int SecondPoints, int Vectors, int Count, typename Fetch>
VOXGRAD_INLINE void sumPoints(const WinogradRowProduct& p, const float* tiles, int point,
                              vfloat (&to)[Vectors][kGroupTiles][Count], Fetch fetch) {
  constexpr int kFirst = parts == Parts::one ? 6 : 7;  // products of the first part
  constexpr int kProducts = kRowProducts[parts != Parts::one];
  const float *plane = tiles + point, *planeWeights = p.weights + point * kLanes;
  const int64_t rowTiles = p.rowTiles, secondTiles = p.secondTiles, vectorWeights = p.vectorWeights;
  vfloat sums[Vectors][kGroupTiles][Points] = {};
  for (int64_t i = p.planes; i > 0; --i) {
    const float *source = plane, *weights = planeWeights;
    fetch();
    for (int64_t j = p.rows; j > 0; --j) {
      if constexpr (parts == Parts::neighbours) {
        multiplyNeighbours(source, weights, sums);
      } else {
        multiply<Points>(source, weights, vectorWeights, sums);
        if constexpr (parts == Parts::two && SecondPoints > 0)
          multiply<SecondPoints>(source + secondTiles, weights + kFirst * kLanes, vectorWeights, sums);
      }
      source += rowTiles;
      weights += kProducts * kLanes;
    }
    plane += p.planeTiles;
    planeWeights += p.planeWeights;
  }
#pragma GCC unroll 2
  for (int v = 0; v < Vectors; ++v) {
#pragma GCC unroll 4
    for (int t = 0; t < kGroupTiles; ++t) {
#pragma GCC unroll 7
      for (int i = 0; i < Points; ++i) to[v][t][point + i] = sums[v][t][i];
    }
  }
}

template <Parts parts, int Vectors, bool Sums>
void productLines(const WinogradRowProduct& p) {
  constexpr int kShared = 6, count = parts == Parts::one ? kShared : kShared + 1;
  constexpr int64_t kGroup = kGroupTiles * kRowOutputs;
  // What groups to come will store is brought into the second-level cache while sums go on, the same share at
  // every plane of taps: where stores have to wait for memory, that takes a third of the time.
  constexpr int64_t kGroupsAhead = 4;
  constexpr int kPoints = kLanes == 16 ? count : 2 / Vectors;
  const int64_t calls = p.planes * (kLanes == 16 ? 1 : kShared / kPoints);
  const int64_t fetches = calls > 0 ? (kGroup + calls - 1) / calls : 0;
  const int64_t pitch = p.outputVoxel;
  // In float over the lines of a call, which are few, then in double.
  vfloat sum[Vectors] = {}, square[Vectors] = {};
  for (int64_t line = 0; line < p.lines; ++line) {
    float* output = p.output + line * p.outputLine;
    const float* groupSource = p.tiles + line * p.lineTiles;
    for (int64_t voxel = 0; voxel < p.voxels; voxel += kGroup) {
      const float* ahead = output + kGroupsAhead * kGroup * pitch;
      const auto fetch = [&]() __attribute__((always_inline)) {
        for (int64_t i = 0; i < fetches; ++i, ahead += pitch) __builtin_prefetch(ahead, 0, 2);
      };
      vfloat sums[Vectors][kGroupTiles][count];
      if constexpr (kLanes == 16) {
        sumPoints<parts, count, kShared>(p, groupSource, 0, sums, fetch);
      } else {
        for (int point = 0; point < kShared; point += kPoints)
          sumPoints<parts, kPoints, kPoints>(p, groupSource, point, sums, fetch);
        if constexpr (count > kShared) sumPoints<parts, 1, 0>(p, groupSource, kShared, sums, fetch);
      }
      groupSource += kGroupTiles * kRowTile;
      const bool whole = p.channels == Vectors * kLanes && p.voxels - voxel >= kGroup;
      const bool first = Sums && voxel == 0 && line == 0 && p.sums->voxels == 0;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        const vfloat bias = load(p.bias + v * kLanes);
        float* const to = output + v * kLanes;
        const int64_t channels = p.channels - v * kLanes;
#pragma GCC unroll 4
        for (int t = 0; t < kGroupTiles; ++t) {
          vfloat y[kRowOutputs];
          transformOutput(sums[v][t], y);
          if (first && t == 0) store(p.sums->shift + v * kLanes, y[0] + bias);
          const vfloat shift = Sums ? load(p.sums->shift + v * kLanes) : vfloat{};
#pragma GCC unroll 4
          for (int i = 0; i < kRowOutputs; ++i) {
            const int at = t * kRowOutputs + i;
            const vfloat value = y[i] + bias;
            if (whole) {
              store(to + at * pitch, value);
            } else {
              if (voxel + at >= p.voxels) break;
              storeFirst(to + at * pitch, value, channels);
            }
            if (Sums) {
              const vfloat difference = value - shift;
              sum[v] += difference;
              square[v] += difference * difference;
            }
          }
        }
      }
      output += kGroup * pitch;
    }
  }
  for (int v = 0; Sums && v < Vectors; ++v) {
    addLanes(p.sums->totals + 2 * v * kLanes, sum[v]);
    addLanes(p.sums->totals + (2 * v + 1) * kLanes, square[v]);
  }
}

template <Parts parts, int Vectors>
void productOf(const WinogradRowProduct& p) {
  p.sums ? productLines<parts, Vectors, true>(p) : productLines<parts, Vectors, false>(p);
}

void productTwo(const WinogradRowProduct& p) {
  // Its sums and two weights leave no register free without AVX-512.
  kLanes == 16 && p.secondTiles == kRowTile ? productOf<Parts::neighbours, 1>(p)
                                            : productOf<Parts::two, 1>(p);
}

constexpr WinogradRowKernels makeTable() {
  WinogradRowKernels table = {kLanes, kGroupTiles, kVectors, {transform<6>, transform<7>}, {}};
  table.product[0][0] = productOf<Parts::one, 1>;
  table.product[0][1] = productTwo;
  if constexpr (kVectors > 1) {
    table.product[1][0] = productOf<Parts::one, 2>;
    table.product[1][1] = productOf<Parts::two, 2>;
  }
  return table;
}

constexpr WinogradRowKernels kTable = makeTable();

}  // namespace

const WinogradRowKernels& winogradRowKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
