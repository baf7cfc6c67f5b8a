// The multiplying micro-kernels of Winograd convolution, of any number of axes. Compiled once per instruction
// set; see simd.h.
#include "simd.h"
#include "winograd_products.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Reduced channels whose products are accumulated before they are added to what came before: their filters
// stay in the first-level cache for all tiles, and long sums keep a small rounding error.
constexpr int64_t kDepthChunk = 128;
// Taps are accumulated together up to this many reduced channels of all of them.
constexpr int64_t kTapsDepth = 192;

// Tiles that are summed together: those of a panel of sources and of gradients stay in the first-level cache.
constexpr int64_t kSumTiles = 192;

// Tiles whose products are accumulated together: 24 registers on AVX-512, 12 elsewhere.
constexpr int rowLimit(int vectors) { return (kLanes == 16 ? 24 : 12) / vectors; }

template <int Vectors, int Rows>
VOXGRAD_INLINE void productStep(vfloat (&sums)[Rows][Vectors], const float* const (&a)[(Rows + 3) / 4],
                                int64_t stride, int64_t stride3, const float* filters, int step) {
  vfloat b[Vectors];
#pragma GCC unroll 2
  for (int j = 0; j < Vectors; ++j) b[j] = load(filters + (step * Vectors + j) * kLanes);
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
    const vfloat x = broadcast(a[i / 4] + (i % 4 == 3 ? stride3 : i % 4 * stride) + step);
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) multiplyAdd(&sums[i][j], x, b[j]);
  }
}

// Filters are fetched while the product before runs. On processors of shorter vectors that is level or loses.
constexpr bool kFetches = kLanes == 16;
constexpr int64_t kLineFloats = 16;
// Lines of filters to fetch while four steps are computed, from the first of these on.
struct Ahead {
  int64_t first, end;
};

template <int Vectors, int Rows>
void productRows(const float* tiles, int64_t stride, int64_t taps, int64_t tapStride, const float* filters,
                 int64_t depth, bool add, float* products, const Ahead& ahead) {
  constexpr int unroll = 4;
  vfloat sums[Rows][Vectors] = {};
  const int64_t stride3 = 3 * stride;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const float* a[(Rows + 3) / 4];
    for (int i = 0; i < (Rows + 3) / 4; ++i) a[i] = tiles + tap * tapStride + i * 4 * stride;
    int64_t left = depth;
    for (; left >= unroll; left -= unroll) {
      if constexpr (kFetches) {
        for (int64_t i = ahead.first; i < ahead.end; ++i) __builtin_prefetch(filters + i * kLineFloats);
      }
#pragma GCC unroll 4
      for (int step = 0; step < unroll; ++step) {
        productStep<Vectors, Rows>(sums, a, stride, stride3, filters, step);
      }
#pragma GCC unroll 6
      for (int i = 0; i < (Rows + 3) / 4; ++i) a[i] += unroll;
      filters += unroll * Vectors * kLanes;
    }
    for (; left > 0; --left) {
      productStep<Vectors, Rows>(sums, a, stride, stride3, filters, 0);
#pragma GCC unroll 6
      for (int i = 0; i < (Rows + 3) / 4; ++i) ++a[i];
      filters += Vectors * kLanes;
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      float* const to = products + (i * Vectors + j) * kLanes;
      store(to, add ? load(to) + sums[i][j] : sums[i][j]);
    }
  }
}

using ProductRows = void (*)(const float*, int64_t, int64_t, int64_t, const float*, int64_t, bool, float*,
                             const Ahead&);

struct ProductTable {
  ProductRows rows[rowLimit(1)];
};

template <int Vectors, int Rows>
constexpr void fillProducts(ProductTable& table) {
  if constexpr (Rows > 0) {
    table.rows[Rows - 1] = productRows<Vectors, Rows>;
    fillProducts<Vectors, Rows - 1>(table);
  }
}

template <int Vectors>
constexpr ProductTable productTable() {
  ProductTable table = {};
  fillProducts<Vectors, rowLimit(Vectors)>(table);
  return table;
}

constexpr ProductTable kProducts[kWinogradVectors] = {productTable<1>(), productTable<2>()};

// A block of sums [Rows][Vectors][lanes], rowStride floats apart, over all tiles.
template <int Vectors, int Rows>
void sumRows(const float* gradients, int64_t gradientStride, const float* sources, int64_t sourceStride,
             int64_t tiles, bool add, float* sums, int64_t rowStride) {
  vfloat block[Rows][Vectors] = {};
  // Added to at the end, when nothing else is left to wait for.
  const int lines = add ? Vectors : 1;
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < lines; ++j) __builtin_prefetch(sums + i * rowStride + j * kLanes, 1);
  }
  for (int64_t tile = 0; tile < tiles; ++tile) {
    vfloat x[Vectors];
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) x[j] = load(sources + j * kLanes);
#pragma GCC unroll 24
    for (int i = 0; i < Rows; ++i) {
      const vfloat dy = broadcast(gradients + i);
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) block[i][j] += dy * x[j];
    }
    gradients += gradientStride;
    sources += sourceStride;
  }
  // Adding a whole block at a time also keeps the rounding error of long sums small.
#pragma GCC unroll 24
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      float* const to = sums + i * rowStride + j * kLanes;
      store(to, add ? load(to) + block[i][j] : block[i][j]);
    }
  }
}

using SumRows = void (*)(const float*, int64_t, const float*, int64_t, int64_t, bool, float*, int64_t);

struct SumTable {
  SumRows rows[rowLimit(1)];
};

template <int Vectors, int Rows>
constexpr void fillSums(SumTable& table) {
  if constexpr (Rows > 0) {
    table.rows[Rows - 1] = sumRows<Vectors, Rows>;
    fillSums<Vectors, Rows - 1>(table);
  }
}

template <int Vectors>
constexpr SumTable sumTable() {
  SumTable table = {};
  fillSums<Vectors, rowLimit(Vectors)>(table);
  return table;
}

constexpr SumTable kSums[kWinogradVectors] = {sumTable<1>(), sumTable<2>()};

}  // namespace

void product(const WinogradProduct& p) {
  // Groups of rows as even as possible: a short last group would wait for its multiply-adds.
  const int64_t limit = rowLimit(static_cast<int>(p.vectors)), width = p.vectors * kLanes;
  const int64_t groups = (p.rows + limit - 1) / limit;
  const int64_t rows = p.rows / groups, longerGroups = p.rows % groups;
  // Those of a single tap lie in the order in which they are used.
  const int64_t lines = kFetches && p.taps == 1 ? 4 * width / kLineFloats : 0;
  // Reduced channels from `from` on, of `taps` taps, for all rows of a frequency.
  const auto accumulate = [&](int64_t f, int64_t tap, int64_t taps, int64_t from, int64_t depth) {
    const float* tiles = p.tiles + f * p.tileFrequencyStride + tap * p.tapStride + from;
    const float* const filters = p.filters + f * p.filterFrequencyStride + (tap * p.depth + from) * width;
    float* products = p.products + f * p.productFrequencyStride;
    const int64_t chunkLines = depth * width / kLineFloats;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t count = rows + (group < longerGroups ? 1 : 0);
      Ahead ahead = {chunkLines, chunkLines};
      if (lines > 0) ahead = {chunkLines + lines * group / groups, chunkLines + lines * (group + 1) / groups};
      kProducts[p.vectors - 1].rows[count - 1](tiles, p.tileStride, taps, p.tapStride, filters, depth,
                                               p.add || tap > 0 || from > 0, products, ahead);
      tiles += count * p.tileStride;
      products += count * width;
    }
  };
  for (int64_t f = 0; f < p.frequencies; ++f) {
    if (p.taps > 1 && p.taps * p.depth <= kTapsDepth) {
      accumulate(f, 0, p.taps, 0, p.depth);
      continue;
    }
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      for (int64_t at = 0; at < p.depth; at += kDepthChunk) {
        accumulate(f, tap, 1, at, p.depth - at < kDepthChunk ? p.depth - at : kDepthChunk);
      }
    }
  }
}

void sum(const WinogradSum& s) {
  constexpr int64_t panel = kWinogradVectors * kLanes;
  const int64_t blocks = (s.tiles + kSumTiles - 1) / kSumTiles;
  // Some tiles, for a panel of output channels and one of sources.
  const auto accumulate = [&](int64_t f, int64_t tile, int64_t tiles, int64_t output, int64_t vector) {
    const int64_t width = s.vectors - vector;
    const int vectors = width < kWinogradVectors ? static_cast<int>(width) : kWinogradVectors;
    const float* const sources = s.sources + f * s.sourceFrequencyStride + tile * s.sourceStride +
                                 vector / kWinogradVectors * s.sourcePanelStride;
    const float* gradients = s.gradients + f * s.gradientFrequencyStride + tile * s.gradientStride +
                             output / panel * s.gradientPanelStride;
    float* sums = s.sums + f * s.sumFrequencyStride + output * s.sumStride + vector * kLanes;
    int64_t left = s.outputs - output < panel ? s.outputs - output : panel;
    for (int64_t groups = (left + rowLimit(vectors) - 1) / rowLimit(vectors); groups > 0; --groups) {
      const int64_t rows = (left + groups - 1) / groups;
      kSums[vectors - 1].rows[rows - 1](gradients, s.gradientStride, sources, s.sourceStride, tiles,
                                        s.add || tile > 0, sums, s.sumStride);
      gradients += rows;
      sums += rows * s.sumStride;
      left -= rows;
    }
  };
  for (int64_t f = 0; f < s.frequencies; ++f) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = s.tiles * block / blocks, end = s.tiles * (block + 1) / blocks;
      for (int64_t vector = 0; vector < s.vectors; vector += kWinogradVectors) {
        for (int64_t output = 0; output < s.outputs; output += panel)
          accumulate(f, first, end - first, output, vector);
      }
    }
  }
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
