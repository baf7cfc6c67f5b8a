// Transforms of 2-D Winograd convolution. Compiled once per instruction set; see simd.h.
#include "winograd2d_kernels.h"

#include "simd_norm.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

template <int Count, bool Tail>
VOXGRAD_INLINE void loadColumn(vfloat (&column)[Count], const Winograd2dTiles& t, int64_t voxel,
                               int64_t channel) {
  const int64_t w = t.begin + voxel * t.step;
  if (w < 0 || w >= t.width) {
#pragma GCC unroll 6
    for (int h = 0; h < Count; ++h) column[h] = vfloat{};
    return;
  }
  const int64_t at = w * t.channels + channel;
#pragma GCC unroll 6
  for (int h = 0; h < Count; ++h) {
    column[h] = Tail ? loadFirst(t.rows[h] + at, t.channels - channel) : load(t.rows[h] + at);
  }
}

enum class Source { raw, normalized };

template <int Outputs, Source source, bool Tail>
VOXGRAD_INLINE void sourceColumn(vfloat (&column)[Outputs + 2], const Winograd2dTiles& t, int64_t voxel,
                                 int64_t channel, const NormVectors& norm) {
  loadColumn<Outputs + 2, Tail>(column, t, voxel, channel);
  const int64_t w = t.begin + voxel * t.step;
  if (source == Source::normalized && w >= 0 && w < t.width) {
#pragma GCC unroll 6
    for (int h = 0; h < Outputs + 2; ++h) {
      column[h] = reinterpret_cast<vfloat>(reinterpret_cast<vint>(normRelu(column[h], norm)) & t.inside[h]);
    }
  }
  transformSource(column);
}

template <int Frequencies>
VOXGRAD_INLINE void storeLine(float* to, int64_t frequencyStride, const vfloat (&line)[Frequencies]) {
#pragma GCC unroll 6
  for (int w = 0; w < Frequencies; ++w) store(to + w * frequencyStride, line[w]);
}

VOXGRAD_INLINE float* transformedAt(const Winograd2dTiles& t, int64_t channel) {
  constexpr int64_t panel = kWinogradVectors * kLanes;
  return t.transformed + channel / panel * t.panelStride + channel % panel;
}

template <int Outputs, Source source, bool Tail>
void sourceChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int f = Outputs + 2;
  const NormVectors norm = source == Source::normalized ? loadNorm(t.norm, channel) : NormVectors{};
  vfloat columns[f][f];
  sourceColumn<Outputs, source, Tail>(columns[Outputs], t, 0, channel, norm);
  sourceColumn<Outputs, source, Tail>(columns[Outputs + 1], t, 1, channel, norm);
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
    // Neighbouring tiles share two columns.
#pragma GCC unroll 6
    for (int h = 0; h < f; ++h) {
      columns[0][h] = columns[Outputs][h];
      columns[1][h] = columns[Outputs + 1][h];
    }
#pragma GCC unroll 4
    for (int w = 2; w < f; ++w)
      sourceColumn<Outputs, source, Tail>(columns[w], t, tile * Outputs + w, channel, norm);
#pragma GCC unroll 6
    for (int h = 0; h < f; ++h) {
      vfloat line[f];
#pragma GCC unroll 6
      for (int w = 0; w < f; ++w) line[w] = columns[w][h];
      transformSource(line);
      storeLine(to + h * f * t.frequencyStride, t.frequencyStride, line);
    }
  }
}

template <int Outputs, bool Tail>
void gradientChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int f = Outputs + 2;
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
    vfloat columns[Outputs][f];
#pragma GCC unroll 4
    for (int w = 0; w < Outputs; ++w) {
      vfloat column[Outputs];
      loadColumn<Outputs, Tail>(column, t, tile * Outputs + w, channel);
      transformGradient(column, columns[w]);
    }
#pragma GCC unroll 6
    for (int h = 0; h < f; ++h) {
      vfloat heights[Outputs], line[f];
#pragma GCC unroll 4
      for (int w = 0; w < Outputs; ++w) heights[w] = columns[w][h];
      transformGradient(heights, line);
      storeLine(to + h * f * t.frequencyStride, t.frequencyStride, line);
    }
  }
}

using Channels = void (*)(const Winograd2dTiles&, int64_t);

template <Channels Whole, Channels Tail>
void forChannels(const Winograd2dTiles& t) {
  int64_t channel = 0;
  for (; channel + kLanes <= t.channels; channel += kLanes) Whole(t, channel);
  if (channel < t.channels) Tail(t, channel);
}

VOXGRAD_INLINE void addLanes(double* totals, vfloat v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < kLanes; ++i) totals[i] += lanes[i];
}

template <int Outputs, bool Sums>
void outputTiles(const Winograd2dOutput& o) {
  constexpr int f = Outputs + 2;
  // In float over the tiles of a call, which are few, then in double.
  vfloat sum[kWinogradVectors] = {}, square[kWinogradVectors] = {};
  for (int64_t tile = 0; tile < o.tiles; ++tile) {
    const int64_t voxels = o.voxels - Outputs * tile;
    for (int64_t vector = 0; vector < o.vectors; ++vector) {
      const float* m = o.products + (tile * o.vectors + vector) * kLanes;
      vfloat half[f][Outputs];
#pragma GCC unroll 6
      for (int h = 0; h < f; ++h, m += f * o.frequencyStride) {
        vfloat line[f];
#pragma GCC unroll 6
        for (int w = 0; w < f; ++w) line[w] = load(m + w * o.frequencyStride);
        transformOutput(line, half[h]);
      }
      const int64_t count = o.channels - vector * kLanes;
      const int64_t at = Outputs * tile * o.voxelStride + vector * kLanes;
      const vfloat bias = load(o.bias + vector * kLanes);
      vfloat shift = Sums ? load(o.sums->shift + vector * kLanes) : vfloat{};
#pragma GCC unroll 4
      for (int w = 0; w < Outputs; ++w) {
        if (w >= voxels) break;
        vfloat column[f], heights[Outputs];
#pragma GCC unroll 6
        for (int h = 0; h < f; ++h) column[h] = half[h][w];
        transformOutput(column, heights);
        if (Sums && w == 0 && tile == 0 && o.sums->voxels == 0) {
          shift = heights[0] + bias;
          store(o.sums->shift + vector * kLanes, shift);
        }
#pragma GCC unroll 4
        for (int h = 0; h < Outputs; ++h) {
          if (!o.rows[h]) continue;
          const vfloat value = heights[h] + bias;
          storeFirst(o.rows[h] + at + w * o.voxelStride, value, count);
          if (Sums) {
            const vfloat difference = value - shift;
            sum[vector] += difference;
            square[vector] += difference * difference;
          }
        }
      }
    }
  }
  for (int64_t vector = 0; Sums && vector < o.vectors; ++vector) {
    addLanes(o.sums->totals + 2 * vector * kLanes, sum[vector]);
    addLanes(o.sums->totals + (2 * vector + 1) * kLanes, square[vector]);
  }
}

template <int Outputs>
void output(const Winograd2dOutput& o) {
  o.sums ? outputTiles<Outputs, true>(o) : outputTiles<Outputs, false>(o);
}

template <int Outputs>
void filter(const WinogradFilter& p) {
  constexpr int f = Outputs + 2;
  for (int64_t c = 0; c < p.reduced; ++c) {
    const float* const taps = p.taps + c * p.tapReducedStride;
    float* const to = p.filters + c * p.filterReducedStride;
    vfloat rows[3][f];
    for (int s = 0; s < 3; ++s) {
      vfloat row[3];
      for (int t = 0; t < 3; ++t) row[t] = loadFirst(taps + (s * 3 + t) * p.tapStride, p.channels);
      transformFilter(row, rows[s]);
    }
    for (int w = 0; w < f; ++w) {
      const vfloat column[3] = {rows[0][w], rows[1][w], rows[2][w]};
      vfloat heights[f];
      transformFilter(column, heights);
      for (int h = 0; h < f; ++h) store(to + (h * f + w) * p.frequencyStride, heights[h]);
    }
  }
}

template <int Outputs>
void filterGradient(const WinogradFilterGradient& p) {
  constexpr int f = Outputs + 2;
  for (int64_t channel = 0; channel < p.channels; channel += kLanes) {
    vfloat widths[f][3];
    for (int h = 0; h < f; ++h) {
      vfloat line[f];
      for (int w = 0; w < f; ++w) {
        const float* from = p.sums + (h * f + w) * p.frequencyStride + channel;
        line[w] = load(from);
        for (int64_t slab = 1; slab < p.slabs; ++slab) line[w] += load(from + slab * p.slabStride);
      }
      transformFilterGradient(line, widths[h]);
    }
    for (int t = 0; t < 3; ++t) {
      vfloat column[f], heights[3];
      for (int h = 0; h < f; ++h) column[h] = widths[h][t];
      transformFilterGradient(column, heights);
      for (int s = 0; s < 3; ++s) {
        storeFirst(p.taps + (s * 3 + t) * p.channels + channel, heights[s], p.channels - channel);
      }
    }
  }
}

template <int Outputs, Source source>
void transformSources(const Winograd2dTiles& t) {
  forChannels<sourceChannels<Outputs, source, false>, sourceChannels<Outputs, source, true>>(t);
}

template <int Outputs>
constexpr Winograd2dKernels kernelsOf() {
  return {transformSources<Outputs, Source::raw>,
          transformSources<Outputs, Source::normalized>,
          output<Outputs>,
          filter<Outputs>,
          forChannels<gradientChannels<Outputs, false>, gradientChannels<Outputs, true>>,
          filterGradient<Outputs>};
}

constexpr Winograd2dTable kTable = {kernelsOf<2>(), kernelsOf<4>()};

}  // namespace

const Winograd2dTable& winograd2dTable() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
