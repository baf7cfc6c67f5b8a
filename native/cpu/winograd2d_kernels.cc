// Transforms of 2-D Winograd convolution. Compiled once per instruction set; see simd.h.
#include "winograd2d_kernels.h"

#include "simd_norm.h"
#include "simd_sums.h"
#include "winograd_axes.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// `Count` voxels into a column that may be longer.
template <int Count, bool Tail, int Length>
VOXGRAD_INLINE void loadColumn(vfloat (&column)[Length], const Winograd2dTiles& t, int64_t voxel,
                               int64_t channel) {
  const int64_t w = t.begin + voxel * t.step;
  if (w < 0 || w >= t.width) {
#pragma GCC unroll 6
    for (int h = 0; h < Count; ++h) column[h] = vfloat{};
    return;
  }
  const int64_t at = w * t.voxelStride + channel;
#pragma GCC unroll 6
  for (int h = 0; h < Count; ++h) {
    column[h] = Tail ? loadFirst(t.rows[h] + at, t.channels - channel) : load(t.rows[h] + at);
  }
}

enum class Source { raw, normalized };

template <class H, Source source, bool Tail>
VOXGRAD_INLINE void sourceColumn(vfloat (&column)[H::frequencies], const Winograd2dTiles& t, int64_t voxel,
                                 int64_t channel, const NormVectors& norm) {
  loadColumn<H::sources, Tail>(column, t, voxel, channel);
  const int64_t w = t.begin + voxel * t.step;
  if (source == Source::normalized && w >= 0 && w < t.width) {
#pragma GCC unroll 6
    for (int h = 0; h < H::sources; ++h) {
      column[h] = reinterpret_cast<vfloat>(reinterpret_cast<vint>(normRelu(column[h], norm)) & t.inside[h]);
    }
  }
  H::source(column);
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

template <class H, class W, Source source, bool Tail>
void sourceChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int rows = H::frequencies, width = W::frequencies;
  constexpr int shared = W::sources - W::outputs;  // columns, of neighbouring tiles
  const NormVectors norm = source == Source::normalized ? loadNorm(t.norm, channel) : NormVectors{};
  vfloat columns[W::sources][rows];
  const auto loadAt = [&](int w, int64_t voxel) __attribute__((always_inline)) {
    sourceColumn<H, source, Tail>(columns[w], t, voxel, channel, norm);
  };
#pragma GCC unroll 2
  for (int w = 0; w < shared; ++w) loadAt(W::outputs + w, w);
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
#pragma GCC unroll 2
    for (int w = 0; w < shared; ++w) {
#pragma GCC unroll 6
      for (int h = 0; h < rows; ++h) columns[w][h] = columns[W::outputs + w][h];
    }
#pragma GCC unroll 4
    for (int w = shared; w < W::sources; ++w) loadAt(w, tile * W::outputs + w);
#pragma GCC unroll 6
    for (int h = 0; h < rows; ++h) {
      vfloat line[width];
#pragma GCC unroll 6
      for (int w = 0; w < W::sources; ++w) line[w] = columns[w][h];
      W::source(line);
      storeLine(to + h * W::pitch * t.frequencyStride, t.frequencyStride, line);
    }
  }
}

template <class H, class W, bool Tail>
void gradientChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int rows = H::frequencies, width = W::frequencies;
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
    vfloat columns[W::outputs][rows];
#pragma GCC unroll 4
    for (int w = 0; w < W::outputs; ++w) {
      vfloat column[H::outputs];
      loadColumn<H::outputs, Tail>(column, t, tile * W::outputs + w, channel);
      H::gradient(column, columns[w]);
    }
#pragma GCC unroll 6
    for (int h = 0; h < rows; ++h) {
      vfloat widths[W::outputs], line[width];
#pragma GCC unroll 4
      for (int w = 0; w < W::outputs; ++w) widths[w] = columns[w][h];
      W::gradient(widths, line);
      storeLine(to + h * W::pitch * t.frequencyStride, t.frequencyStride, line);
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

template <class H, class W, bool Sums, bool Streams>
void outputTiles(const Winograd2dOutput& o) {
  constexpr int rows = H::frequencies, width = W::frequencies;
  // In float over the tiles of a call, which are few, then in double.
  vfloat sum[kWinogradVectors] = {}, square[kWinogradVectors] = {};
  for (int64_t tile = 0; tile < o.tiles; ++tile) {
    const int64_t voxels = o.voxels - W::outputs * tile, skip = o.skip - W::outputs * tile;
    for (int64_t vector = 0; vector < o.vectors; ++vector) {
      const float* m = o.products + (tile * o.vectors + vector) * kLanes;
      vfloat half[rows][W::outputs];
#pragma GCC unroll 6
      for (int h = 0; h < rows; ++h, m += W::pitch * o.frequencyStride) {
        vfloat line[width];
#pragma GCC unroll 6
        for (int w = 0; w < width; ++w) line[w] = load(m + w * o.frequencyStride);
        W::output(line, half[h]);
      }
      const int64_t count = o.channels - vector * kLanes;
      const int64_t at = W::outputs * tile * o.voxelStride + vector * kLanes;
      const vfloat bias = load(o.bias + vector * kLanes);
      vfloat shift = Sums ? load(o.sums->shift + vector * kLanes) : vfloat{};
#pragma GCC unroll 4
      for (int w = 0; w < W::outputs; ++w) {
        if (w >= voxels) break;
        if (w < skip) continue;
        vfloat column[rows], heights[H::outputs];
#pragma GCC unroll 6
        for (int h = 0; h < rows; ++h) column[h] = half[h][w];
        H::output(column, heights);
        if (Sums && w == 0 && tile == 0 && o.sums->voxels == 0) {
          shift = heights[0] + bias;
          store(o.sums->shift + vector * kLanes, shift);
        }
#pragma GCC unroll 4
        for (int h = 0; h < H::outputs; ++h) {
          if (!o.rows[h]) continue;
          float* const to = o.rows[h] + at + w * o.voxelStride;
          vfloat value = heights[h] + bias;
          if (o.add) value += loadFirst(to, count);
          if (Streams && count >= kLanes)
            stream(to, value);
          else
            storeFirst(to, value, count);
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

template <class H, class W>
void output(const Winograd2dOutput& o) {
  // Narrower vectors of a line are too far apart in time to be stored as one.
  if (kLanes * sizeof(float) == 64 && o.streams)
    o.sums ? outputTiles<H, W, true, true>(o) : outputTiles<H, W, false, true>(o);
  else
    o.sums ? outputTiles<H, W, true, false>(o) : outputTiles<H, W, false, false>(o);
}

template <class H, class W>
void filter(const WinogradFilter& p) {
  constexpr int heights = H::frequencies, widths = W::frequencies;
  for (int64_t c = 0; c < p.reduced; ++c) {
    const float* const taps = p.taps + c * p.tapReducedStride;
    float* const to = p.filters + c * p.filterReducedStride;
    vfloat rows[H::taps][widths];
    for (int s = 0; s < H::taps; ++s) {
      vfloat row[W::taps];
      for (int t = 0; t < W::taps; ++t)
        row[t] = loadFirst(taps + (H::tapOf(s) * 3 + W::tapOf(t)) * p.tapStride, p.channels);
      W::filter(row, rows[s]);
    }
    for (int w = 0; w < widths; ++w) {
      vfloat column[H::taps], out[heights];
      for (int s = 0; s < H::taps; ++s) column[s] = rows[s][w];
      H::filter(column, out);
      for (int h = 0; h < heights; ++h) store(to + (h * W::pitch + w) * p.frequencyStride, out[h]);
    }
  }
}

template <class H, class W>
void filterGradient(const WinogradFilterGradient& p) {
  constexpr int rows = H::frequencies, width = W::frequencies;
  for (int64_t channel = 0; channel < p.channels; channel += kLanes) {
    vfloat widths[rows][W::taps];
    for (int h = 0; h < rows; ++h) {
      vfloat line[width];
      for (int w = 0; w < width; ++w) {
        const float* from = p.sums + (h * W::pitch + w) * p.frequencyStride + channel;
        line[w] = load(from);
        for (int64_t slab = 1; slab < p.slabs; ++slab) line[w] += load(from + slab * p.slabStride);
      }
      W::filterGradient(line, widths[h]);
    }
    const int64_t left = p.channels - channel;
    for (int t = 0; t < W::taps; ++t) {
      vfloat column[rows], heights[H::taps];
      for (int h = 0; h < rows; ++h) column[h] = widths[h][t];
      H::filterGradient(column, heights);
      for (int s = 0; s < H::taps; ++s) {
        float* const to = p.taps + (H::tapOf(s) * 3 + W::tapOf(t)) * p.tapStride + channel;
        storeFirst(to, p.add ? loadFirst(to, left) + heights[s] : heights[s], left);
      }
    }
  }
}

template <class H, class W, Source source>
void transformSources(const Winograd2dTiles& t) {
  forChannels<sourceChannels<H, W, source, false>, sourceChannels<H, W, source, true>>(t);
}

template <class H, class W>
void transformGradients(const Winograd2dTiles& t) {
  forChannels<gradientChannels<H, W, false>, gradientChannels<H, W, true>>(t);
}

// Those of a gradient may have more frequencies.
template <class H, class W, class GradientH = H, class GradientW = W>
constexpr Winograd2dKernels kernelsOf() {
  return {
      transformSources<H, W, Source::raw>,
      transformSources<H, W, Source::normalized>,
      output<H, W>,
      filter<H, W>,
      transformGradients<GradientH, GradientW>,
      filterGradient<H, W>,
  };
}

// A gradient meets all phases: its transform is that of the phase with the most frequencies.
template <int TapsH, int TapsW>
constexpr Winograd2dKernels phaseKernels() {
  return kernelsOf<Phase<TapsH>, Phase<TapsW>, Phase<2>, Phase<2>>();
}

constexpr Winograd2dTable kTable = {
    {kernelsOf<Tile<2>, Tile<2>>(), kernelsOf<Tile<3>, Tile<3>>(), kernelsOf<Tile<4>, Tile<4>>()},
    {{phaseKernels<2, 2>(), phaseKernels<2, 1>()}, {phaseKernels<1, 2>(), phaseKernels<1, 1>()}},
    {{kernelsOf<Single, Single>(), kernelsOf<Single, Pair>(), kernelsOf<Single, Tile<3>>()},
     {kernelsOf<Pair, Single>(), kernelsOf<Pair, Pair>(), kernelsOf<Pair, Tile<3>>()},
     {kernelsOf<Tile<3>, Single>(), kernelsOf<Tile<3>, Pair>(), kernelsOf<Tile<3>, Tile<3>>()}},
};

}  // namespace

const Winograd2dTable& winograd2dTable() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
