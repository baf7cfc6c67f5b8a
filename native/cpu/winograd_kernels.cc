// Micro-kernels of Winograd convolution. Compiled once per instruction set; see simd.h.
#include "winograd_kernels.h"

#include "simd.h"
#include "winograd_products.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

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
  transformSource(column);
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
      vfloat line[4] = {kept[0][h], kept[1][h], next[0][h], next[1][h]};
      transformSource(line);
      store(at, line[0]);
      store(at + s.frequencyStride, line[1]);
      store(at + 2 * s.frequencyStride, line[2]);
      store(at + 3 * s.frequencyStride, line[3]);
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
        const vfloat line[4] = {load(m), load(m + o.frequencyStride), load(m + 2 * o.frequencyStride),
                                load(m + 3 * o.frequencyStride)};
        transformOutput(line, half[h]);
      }
#pragma GCC unroll 2
      for (int w = 0; w < 2; ++w) {
        const vfloat column[4] = {half[0][w], half[1][w], half[2][w], half[3][w]};
        vfloat heights[2];
        transformOutput(column, heights);
        values[0][w] = heights[0];
        values[1][w] = heights[1];
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

void filter(const WinogradFilter& p) {
  for (int64_t c = 0; c < p.reduced; ++c) {
    const float* const taps = p.taps + c * p.tapReducedStride;
    float* const to = p.filters + c * p.filterReducedStride;
    vfloat rows[3][3][4];
    for (int r = 0; r < 3; ++r) {
      for (int s = 0; s < 3; ++s) {
        const float* const tap = taps + (r * 3 + s) * 3 * p.tapStride;
        const vfloat row[3] = {loadFirst(tap, p.channels), loadFirst(tap + p.tapStride, p.channels),
                               loadFirst(tap + 2 * p.tapStride, p.channels)};
        transformFilter(row, rows[r][s]);
      }
    }
    for (int w = 0; w < 4; ++w) {
      vfloat heights[3][4];
      for (int r = 0; r < 3; ++r) {
        const vfloat column[3] = {rows[r][0][w], rows[r][1][w], rows[r][2][w]};
        transformFilter(column, heights[r]);
      }
      for (int h = 0; h < 4; ++h) {
        const vfloat slices[3] = {heights[0][h], heights[1][h], heights[2][h]};
        vfloat planes[4];
        transformFilter(slices, planes);
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
  transformGradient(y, column);
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
      const vfloat y[2] = {left[h], right[h]};
      vfloat line[4];
      transformGradient(y, line);
      store(at, line[0]);
      store(at + g.frequencyStride, line[1]);
      store(at + 2 * g.frequencyStride, line[2]);
      store(at + 3 * g.frequencyStride, line[3]);
      at += 4 * g.frequencyStride;
    }
  }
}

void gradient(const WinogradGradient& g) {
  int64_t channel = 0;
  for (; channel + kLanes <= g.channels; channel += kLanes) gradientChannels<false>(g, channel);
  if (channel < g.channels) gradientChannels<true>(g, channel);
}

// The next line of each of 64 streams: more than processors follow by themselves.
constexpr int kAheadFloats = 16;

void filterGradient(const WinogradFilterGradient& p) {
  for (int64_t channel = 0; channel < p.channels; channel += kLanes) {
    vfloat widths[4][4][3];
    for (int row = 0; row < 16; ++row) {
      vfloat m[4];
      for (int w = 0; w < 4; ++w) {
        const float* from = p.sums + (row * 4 + w) * p.frequencyStride + channel;
        m[w] = load(from);
        __builtin_prefetch(from + kAheadFloats);
        for (int64_t slab = 1; slab < p.slabs; ++slab) m[w] += load(from + slab * p.slabStride);
      }
      transformFilterGradient(m, widths[row / 4][row % 4]);
    }
    for (int t = 0; t < 3; ++t) {
      vfloat heights[4][3];
      for (int d = 0; d < 4; ++d) {
        const vfloat column[4] = {widths[d][0][t], widths[d][1][t], widths[d][2][t], widths[d][3][t]};
        transformFilterGradient(column, heights[d]);
      }
      for (int s = 0; s < 3; ++s) {
        const vfloat slices[4] = {heights[0][s], heights[1][s], heights[2][s], heights[3][s]};
        vfloat depths[3];
        transformFilterGradient(slices, depths);
        for (int r = 0; r < 3; ++r) {
          storeFirst(p.taps + ((r * 3 + s) * 3 + t) * p.tapStride + channel, depths[r], p.channels - channel);
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
