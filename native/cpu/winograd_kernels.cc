// Micro-kernels of Winograd convolution. Compiled once per instruction set; see simd.h.
#include "winograd_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Tiles whose products are accumulated together: 24 registers on AVX-512, 12 elsewhere.
constexpr int rowLimit(int vectors) { return kLanes == 16 ? 12 : 12 / vectors; }

VOXGRAD_INLINE void transformSource(vfloat& a, vfloat& b, vfloat& c, vfloat& d) {
  const vfloat first = a - c, second = b + c, third = c - b, fourth = b - d;
  a = first;
  b = second;
  c = third;
  d = fourth;
}

// Four heights of the source column at voxel w, combined along depth and transformed along height.
template <bool Tail>
VOXGRAD_INLINE void sourceColumn(vfloat (&column)[4], const WinogradSource& s, vfloat sign, int64_t w,
                                 int64_t channel, int64_t count) {
  if (w < 0 || w >= s.width) {
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) column[h] = vfloat{};
    return;
  }
  const int64_t at = w * s.channels + channel;
#pragma GCC unroll 4
  for (int h = 0; h < 4; ++h) {
    column[h] = Tail ? loadFirst(s.first[h] + at, count) + sign * loadFirst(s.second[h] + at, count)
                     : load(s.first[h] + at) + sign * load(s.second[h] + at);
  }
  transformSource(column[0], column[1], column[2], column[3]);
}

template <bool Tail>
VOXGRAD_INLINE void sourceChannels(const WinogradSource& s, int64_t channel) {
  const int64_t count = s.channels - channel;
  const vfloat sign = broadcast(&s.sign);
  vfloat kept[2][4];
  sourceColumn<Tail>(kept[0], s, sign, s.begin, channel, count);
  sourceColumn<Tail>(kept[1], s, sign, s.begin + 1, channel, count);
  float* to = s.transformed + channel;
  for (int64_t tile = 0; tile < s.tiles; ++tile, to += s.tileStride) {
    vfloat next[2][4];
    sourceColumn<Tail>(next[0], s, sign, s.begin + 2 * tile + 2, channel, count);
    sourceColumn<Tail>(next[1], s, sign, s.begin + 2 * tile + 3, channel, count);
    float* at = to;
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      vfloat a = kept[0][h], b = kept[1][h], c = next[0][h], d = next[1][h];
      transformSource(a, b, c, d);
      store(at, a);
      store(at + s.frequencyStride, b);
      store(at + 2 * s.frequencyStride, c);
      store(at + 3 * s.frequencyStride, d);
      at += 4 * s.frequencyStride;
      kept[0][h] = next[0][h];
      kept[1][h] = next[1][h];
    }
  }
}

void source(const WinogradSource& s) {
  int64_t channel = 0;
  for (; channel + kLanes <= s.channels; channel += kLanes) sourceChannels<false>(s, channel);
  if (channel < s.channels) sourceChannels<true>(s, channel);
}

template <int Vectors, int Rows>
VOXGRAD_INLINE void productStep(vfloat (&sums)[Rows][Vectors], const float* const (&a)[(Rows + 3) / 4],
                                int64_t stride, int64_t stride3, const float* filters, int step) {
  vfloat b[Vectors];
#pragma GCC unroll 2
  for (int j = 0; j < Vectors; ++j) b[j] = load(filters + (step * Vectors + j) * kLanes);
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
    const vfloat x = broadcast(a[i / 4] + (i % 4 == 3 ? stride3 : i % 4 * stride) + step);
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) sums[i][j] += x * b[j];
  }
}

template <int Vectors, int Rows>
void productRows(const float* tiles, int64_t stride, const float* filters, int64_t depth, float* products) {
  constexpr int unroll = 4;
  vfloat sums[Rows][Vectors] = {};
  const int64_t stride3 = 3 * stride;
  const float* a[(Rows + 3) / 4];
  for (int i = 0; i < (Rows + 3) / 4; ++i) a[i] = tiles + i * 4 * stride;
  int64_t left = depth;
  for (; left >= unroll; left -= unroll) {
#pragma GCC unroll 4
    for (int step = 0; step < unroll; ++step) {
      productStep<Vectors, Rows>(sums, a, stride, stride3, filters, step);
    }
#pragma GCC unroll 3
    for (int i = 0; i < (Rows + 3) / 4; ++i) a[i] += unroll;
    filters += unroll * Vectors * kLanes;
  }
  for (; left > 0; --left) {
    productStep<Vectors, Rows>(sums, a, stride, stride3, filters, 0);
#pragma GCC unroll 3
    for (int i = 0; i < (Rows + 3) / 4; ++i) ++a[i];
    filters += Vectors * kLanes;
  }
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) store(products + (i * Vectors + j) * kLanes, sums[i][j]);
  }
}

using ProductRows = void (*)(const float*, int64_t, const float*, int64_t, float*);

struct ProductTable {
  ProductRows rows[12];
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

void product(const WinogradProduct& p) {
  // Groups of rows as even as possible: a short last group would wait for its multiply-adds.
  const int64_t limit = rowLimit(static_cast<int>(p.vectors)), width = p.vectors * kLanes;
  const int64_t groups = (p.rows + limit - 1) / limit;
  for (int f = 0; f < kPlaneFrequencies; ++f) {
    const float* const tiles = p.tiles + f * p.tileFrequencyStride;
    const float* const filters = p.filters + f * p.depth * width;
    float* const products = p.products + f * p.productFrequencyStride;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = p.rows * group / groups, end = p.rows * (group + 1) / groups;
      kProducts[p.vectors - 1].rows[end - first - 1](tiles + first * p.tileStride, p.tileStride, filters,
                                                     p.depth, products + first * width);
    }
  }
}

VOXGRAD_INLINE void transformOutput(vfloat a, vfloat b, vfloat c, vfloat d, vfloat& first, vfloat& second) {
  first = a + b + c;
  second = b - c - d;
}

enum class Update { set, add, subtract };

template <Update How>
VOXGRAD_INLINE void updateVoxel(float* to, vfloat value, vfloat bias, int64_t count) {
  const vfloat before = How == Update::set ? bias : loadFirst(to, count);
  storeFirst(to, How == Update::subtract ? before - value : before + value, count);
}

template <Update How>
VOXGRAD_INLINE void updateSlice(float* const (&rows)[2], int64_t at, const vfloat (&values)[2][2],
                                vfloat bias, int64_t voxels, int64_t voxelStride, int64_t count) {
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    if (!rows[h]) continue;
    updateVoxel<How>(rows[h] + at, values[h][0], bias, count);
    if (voxels > 1) updateVoxel<How>(rows[h] + at + voxelStride, values[h][1], bias, count);
  }
}

template <int Plane>
void outputPlane(const WinogradOutput& o) {
  for (int64_t vector = 0; vector < o.vectors; ++vector) {
    const int64_t count = o.channels - vector * kLanes;
    const vfloat bias = load(o.bias + vector * kLanes);
    for (int64_t tile = 0; tile < o.tiles; ++tile) {
      const float* m = o.products + (tile * o.vectors + vector) * kLanes;
      vfloat half[4][2], values[2][2];
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h, m += 4 * o.frequencyStride) {
        transformOutput(load(m), load(m + o.frequencyStride), load(m + 2 * o.frequencyStride),
                        load(m + 3 * o.frequencyStride), half[h][0], half[h][1]);
      }
#pragma GCC unroll 2
      for (int w = 0; w < 2; ++w) {
        transformOutput(half[0][w], half[1][w], half[2][w], half[3][w], values[0][w], values[1][w]);
      }
      const int64_t at = 2 * tile * o.voxelStride + vector * kLanes, voxels = o.voxels - 2 * tile;
      if constexpr (Plane < 3) {
        constexpr Update how = Plane == 0 ? Update::set : Update::add;
        updateSlice<how>(o.rows[0], at, values, bias, voxels, o.voxelStride, count);
      }
      if constexpr (Plane > 0) {
        constexpr Update how = Plane == 1 ? Update::set : Update::subtract;
        updateSlice<how>(o.rows[1], at, values, bias, voxels, o.voxelStride, count);
      }
    }
  }
}

void output(const WinogradOutput& o) {
  constexpr void (*planes[kPlanes])(const WinogradOutput&) = {outputPlane<0>, outputPlane<1>, outputPlane<2>,
                                                              outputPlane<3>};
  planes[o.plane](o);
}

VOXGRAD_INLINE void transformFilter(vfloat a, vfloat b, vfloat c, vfloat (&out)[4]) {
  const vfloat outer = (a + c) * 0.5f, inner = b * 0.5f;
  out[0] = a;
  out[1] = outer + inner;
  out[2] = outer - inner;
  out[3] = c;
}

void filter(const WinogradFilter& p) {
  for (int64_t c = 0; c < p.reduced; ++c) {
    const float* const taps = p.taps + c * p.tapReducedStride;
    float* const to = p.filters + c * p.filterReducedStride;
    vfloat rows[3][3][4];
    for (int r = 0; r < 3; ++r) {
      for (int s = 0; s < 3; ++s) {
        const float* const tap = taps + (r * 3 + s) * 3 * p.tapStride;
        transformFilter(loadFirst(tap, p.channels), loadFirst(tap + p.tapStride, p.channels),
                        loadFirst(tap + 2 * p.tapStride, p.channels), rows[r][s]);
      }
    }
    for (int w = 0; w < 4; ++w) {
      vfloat heights[3][4];
      for (int r = 0; r < 3; ++r) transformFilter(rows[r][0][w], rows[r][1][w], rows[r][2][w], heights[r]);
      for (int h = 0; h < 4; ++h) {
        vfloat planes[4];
        transformFilter(heights[0][h], heights[1][h], heights[2][h], planes);
        for (int d = 0; d < kPlanes; ++d) {
          store(to + d * p.planeStride + (h * 4 + w) * p.frequencyStride, planes[d]);
        }
      }
    }
  }
}

template <bool Tail>
VOXGRAD_INLINE void gradientColumn(vfloat (&column)[4], const WinogradGradient& g, vfloat sign, int64_t w,
                                   int64_t channel, int64_t count) {
  if (w >= g.width) {
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) column[h] = vfloat{};
    return;
  }
  const int64_t at = w * g.channels + channel;
  vfloat y[2];
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    y[h] = Tail ? loadFirst(g.first[h] + at, count) + sign * loadFirst(g.second[h] + at, count)
                : load(g.first[h] + at) + sign * load(g.second[h] + at);
  }
  column[0] = y[0];
  column[1] = y[0] + y[1];
  column[2] = y[0] - y[1];
  column[3] = -y[1];
}

template <bool Tail>
VOXGRAD_INLINE void gradientChannels(const WinogradGradient& g, int64_t channel) {
  const int64_t count = g.channels - channel;
  const vfloat sign = broadcast(&g.sign);
  float* to = g.transformed + channel;
  for (int64_t tile = 0; tile < g.tiles; ++tile, to += g.tileStride) {
    vfloat left[4], right[4];
    gradientColumn<Tail>(left, g, sign, g.begin + 2 * tile, channel, count);
    gradientColumn<Tail>(right, g, sign, g.begin + 2 * tile + 1, channel, count);
    float* at = to;
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      store(at, left[h]);
      store(at + g.frequencyStride, left[h] + right[h]);
      store(at + 2 * g.frequencyStride, left[h] - right[h]);
      store(at + 3 * g.frequencyStride, -right[h]);
      at += 4 * g.frequencyStride;
    }
  }
}

void gradient(const WinogradGradient& g) {
  int64_t channel = 0;
  for (; channel + kLanes <= g.channels; channel += kLanes) gradientChannels<false>(g, channel);
  if (channel < g.channels) gradientChannels<true>(g, channel);
}

// A block of sums [Rows][Vectors][lanes], rowStride floats apart, over all tiles.
template <int Vectors, int Rows>
void sumRows(const float* gradients, int64_t gradientStride, const float* sources, int64_t sourceStride,
             int64_t tiles, float* sums, int64_t rowStride) {
  vfloat block[Rows][Vectors] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    vfloat x[Vectors];
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) x[j] = load(sources + j * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
      const vfloat dy = broadcast(gradients + i);
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) block[i][j] += dy * x[j];
    }
    gradients += gradientStride;
    sources += sourceStride;
  }
  // Adding a whole block at a time also keeps the rounding error of long sums small.
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      float* const to = sums + i * rowStride + j * kLanes;
      store(to, load(to) + block[i][j]);
    }
  }
}

using SumRows = void (*)(const float*, int64_t, const float*, int64_t, int64_t, float*, int64_t);

struct SumTable {
  SumRows rows[12];
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

void sum(const WinogradSum& s) {
  const int64_t rowStride = s.vectors * kLanes;
  for (int f = 0; f < kPlaneFrequencies; ++f) {
    const float* const sources = s.sources + f * s.sourceFrequencyStride;
    const float* const gradients = s.gradients + f * s.gradientFrequencyStride;
    float* const sums = s.sums + f * s.outputs * rowStride;
    for (int64_t vector = 0; vector < s.vectors; vector += kWinogradVectors) {
      const int64_t left = s.vectors - vector;
      const int vectors = left < kWinogradVectors ? static_cast<int>(left) : kWinogradVectors;
      const int64_t limit = rowLimit(vectors), groups = (s.outputs + limit - 1) / limit;
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t first = s.outputs * group / groups, end = s.outputs * (group + 1) / groups;
        kSums[vectors - 1].rows[end - first - 1](gradients + first, s.gradientStride,
                                                 sources + vector * kLanes, s.sourceStride, s.tiles,
                                                 sums + first * rowStride + vector * kLanes, rowStride);
      }
    }
  }
}

VOXGRAD_INLINE void transformFilterGradient(vfloat a, vfloat b, vfloat c, vfloat d, vfloat (&out)[3]) {
  const vfloat even = (b + c) * 0.5f;
  out[0] = a + even;
  out[1] = (b - c) * 0.5f;
  out[2] = even + d;
}

void filterGradient(const WinogradFilterGradient& p) {
  for (int64_t channel = 0; channel < p.channels; channel += kLanes) {
    vfloat widths[4][4][3];
    for (int row = 0; row < 16; ++row) {
      vfloat m[4];
      for (int w = 0; w < 4; ++w) {
        const float* from = p.sums + (row * 4 + w) * p.frequencyStride + channel;
        m[w] = load(from);
        for (int64_t slab = 1; slab < p.slabs; ++slab) m[w] += load(from + slab * p.slabStride);
      }
      transformFilterGradient(m[0], m[1], m[2], m[3], widths[row / 4][row % 4]);
    }
    for (int t = 0; t < 3; ++t) {
      vfloat heights[4][3];
      for (int d = 0; d < 4; ++d) {
        transformFilterGradient(widths[d][0][t], widths[d][1][t], widths[d][2][t], widths[d][3][t],
                                heights[d]);
      }
      for (int s = 0; s < 3; ++s) {
        vfloat depths[3];
        transformFilterGradient(heights[0][s], heights[1][s], heights[2][s], heights[3][s], depths);
        for (int r = 0; r < 3; ++r) {
          storeFirst(p.taps + ((r * 3 + s) * 3 + t) * p.channels + channel, depths[r], p.channels - channel);
        }
      }
    }
  }
}

constexpr WinogradKernels kTable = {kLanes, source, product, output, filter, gradient, sum, filterGradient};

}  // namespace

const WinogradKernels& winogradKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
