// Transforms of 2-D Winograd convolution. Compiled once per instruction set; see simd.h.
#include "winograd2d_kernels.h"

#include "simd_norm.h"
#include "simd_sums.h"
#include "winograd_phase_transforms.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Taps along one axis that a tile of `Outputs` outputs meets: three, or, of a phase of stride 2, two or one.
template <int Outputs, int Taps>
constexpr int kAxis = Outputs + Taps - 1;  // frequencies, and source voxels of a tile
template <int Outputs, int Taps>
constexpr int kPitch = Taps == 3 ? Outputs + 2 : Outputs + 1;  // frequencies of all phases
template <int Taps>
constexpr int tapOf(int i) {
  return Taps == 3 ? i : Taps == 2 ? 2 * i : 1;
}

template <int Taps, int Frequencies>
VOXGRAD_INLINE void sourceAxis(vfloat (&s)[Frequencies]) {
  if constexpr (Taps == 3) {
    transformSource(s);
  } else {
    transformPhaseSource(s);
  }
}

template <int Taps, int Frequencies, int Outputs>
VOXGRAD_INLINE void outputAxis(const vfloat (&m)[Frequencies], vfloat (&y)[Outputs]) {
  if constexpr (Taps == 3) {
    transformOutput(m, y);
  } else {
    transformPhaseOutput(m, y);
  }
}

template <int Taps, int Frequencies>
VOXGRAD_INLINE void filterAxis(const vfloat (&g)[Taps], vfloat (&out)[Frequencies]) {
  if constexpr (Taps == 3) {
    transformFilter(g, out);
  } else {
    transformPhaseFilter(g, out);
  }
}

template <int Taps, int Outputs, int Frequencies>
VOXGRAD_INLINE void gradientAxis(const vfloat (&y)[Outputs], vfloat (&out)[Frequencies]) {
  if constexpr (Taps == 3) {
    transformGradient(y, out);
  } else {
    transformPhaseGradient(y, out);
  }
}

template <int Taps, int Frequencies>
VOXGRAD_INLINE void filterGradientAxis(const vfloat (&m)[Frequencies], vfloat (&g)[Taps]) {
  if constexpr (Taps == 3) {
    transformFilterGradient(m, g);
  } else {
    transformPhaseFilterGradient(m, g);
  }
}

template <int Count, bool Tail>
VOXGRAD_INLINE void loadColumn(vfloat (&column)[Count], const Winograd2dTiles& t, int64_t voxel,
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

template <int Outputs, int TapsH, Source source, bool Tail>
VOXGRAD_INLINE void sourceColumn(vfloat (&column)[kAxis<Outputs, TapsH>], const Winograd2dTiles& t,
                                 int64_t voxel, int64_t channel, const NormVectors& norm) {
  constexpr int rows = kAxis<Outputs, TapsH>;
  loadColumn<rows, Tail>(column, t, voxel, channel);
  const int64_t w = t.begin + voxel * t.step;
  if (source == Source::normalized && w >= 0 && w < t.width) {
#pragma GCC unroll 6
    for (int h = 0; h < rows; ++h) {
      column[h] = reinterpret_cast<vfloat>(reinterpret_cast<vint>(normRelu(column[h], norm)) & t.inside[h]);
    }
  }
  sourceAxis<TapsH>(column);
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

template <int Outputs, int TapsH, int TapsW, Source source, bool Tail>
void sourceChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int rows = kAxis<Outputs, TapsH>, width = kAxis<Outputs, TapsW>;
  constexpr int shared = TapsW - 1;  // columns, of neighbouring tiles
  const NormVectors norm = source == Source::normalized ? loadNorm(t.norm, channel) : NormVectors{};
  vfloat columns[width][rows];
  const auto loadAt = [&](int w, int64_t voxel) __attribute__((always_inline)) {
    sourceColumn<Outputs, TapsH, source, Tail>(columns[w], t, voxel, channel, norm);
  };
#pragma GCC unroll 2
  for (int w = 0; w < shared; ++w) loadAt(Outputs + w, w);
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
#pragma GCC unroll 2
    for (int w = 0; w < shared; ++w) {
#pragma GCC unroll 6
      for (int h = 0; h < rows; ++h) columns[w][h] = columns[Outputs + w][h];
    }
#pragma GCC unroll 4
    for (int w = shared; w < width; ++w) loadAt(w, tile * Outputs + w);
#pragma GCC unroll 6
    for (int h = 0; h < rows; ++h) {
      vfloat line[width];
#pragma GCC unroll 6
      for (int w = 0; w < width; ++w) line[w] = columns[w][h];
      sourceAxis<TapsW>(line);
      storeLine(to + h * kPitch<Outputs, TapsW> * t.frequencyStride, t.frequencyStride, line);
    }
  }
}

template <int Outputs, int TapsH, int TapsW, bool Tail>
void gradientChannels(const Winograd2dTiles& t, int64_t channel) {
  constexpr int rows = kAxis<Outputs, TapsH>, width = kAxis<Outputs, TapsW>;
  float* to = transformedAt(t, channel);
  for (int64_t tile = 0; tile < t.tiles; ++tile, to += t.tileStride) {
    vfloat columns[Outputs][rows];
#pragma GCC unroll 4
    for (int w = 0; w < Outputs; ++w) {
      vfloat column[Outputs];
      loadColumn<Outputs, Tail>(column, t, tile * Outputs + w, channel);
      gradientAxis<TapsH>(column, columns[w]);
    }
#pragma GCC unroll 6
    for (int h = 0; h < rows; ++h) {
      vfloat heights[Outputs], line[width];
#pragma GCC unroll 4
      for (int w = 0; w < Outputs; ++w) heights[w] = columns[w][h];
      gradientAxis<TapsW>(heights, line);
      storeLine(to + h * kPitch<Outputs, TapsW> * t.frequencyStride, t.frequencyStride, line);
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

template <int Outputs, int TapsH, int TapsW, bool Sums, bool Streams>
void outputTiles(const Winograd2dOutput& o) {
  constexpr int rows = kAxis<Outputs, TapsH>, width = kAxis<Outputs, TapsW>;
  // In float over the tiles of a call, which are few, then in double.
  vfloat sum[kWinogradVectors] = {}, square[kWinogradVectors] = {};
  for (int64_t tile = 0; tile < o.tiles; ++tile) {
    const int64_t voxels = o.voxels - Outputs * tile, skip = o.skip - Outputs * tile;
    for (int64_t vector = 0; vector < o.vectors; ++vector) {
      const float* m = o.products + (tile * o.vectors + vector) * kLanes;
      vfloat half[rows][Outputs];
#pragma GCC unroll 6
      for (int h = 0; h < rows; ++h, m += kPitch<Outputs, TapsW> * o.frequencyStride) {
        vfloat line[width];
#pragma GCC unroll 6
        for (int w = 0; w < width; ++w) line[w] = load(m + w * o.frequencyStride);
        outputAxis<TapsW>(line, half[h]);
      }
      const int64_t count = o.channels - vector * kLanes;
      const int64_t at = Outputs * tile * o.voxelStride + vector * kLanes;
      const vfloat bias = load(o.bias + vector * kLanes);
      vfloat shift = Sums ? load(o.sums->shift + vector * kLanes) : vfloat{};
#pragma GCC unroll 4
      for (int w = 0; w < Outputs; ++w) {
        if (w >= voxels) break;
        if (w < skip) continue;
        vfloat column[rows], heights[Outputs];
#pragma GCC unroll 6
        for (int h = 0; h < rows; ++h) column[h] = half[h][w];
        outputAxis<TapsH>(column, heights);
        if (Sums && w == 0 && tile == 0 && o.sums->voxels == 0) {
          shift = heights[0] + bias;
          store(o.sums->shift + vector * kLanes, shift);
        }
#pragma GCC unroll 4
        for (int h = 0; h < Outputs; ++h) {
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

template <int Outputs, int TapsH, int TapsW>
void output(const Winograd2dOutput& o) {
  // Narrower vectors of a line are too far apart in time to be stored as one.
  if (kLanes * sizeof(float) == 64 && o.streams)
    o.sums ? outputTiles<Outputs, TapsH, TapsW, true, true>(o)
           : outputTiles<Outputs, TapsH, TapsW, false, true>(o);
  else
    o.sums ? outputTiles<Outputs, TapsH, TapsW, true, false>(o)
           : outputTiles<Outputs, TapsH, TapsW, false, false>(o);
}

template <int Outputs, int TapsH, int TapsW>
void filter(const WinogradFilter& p) {
  constexpr int heights = kAxis<Outputs, TapsH>, widths = kAxis<Outputs, TapsW>;
  for (int64_t c = 0; c < p.reduced; ++c) {
    const float* const taps = p.taps + c * p.tapReducedStride;
    float* const to = p.filters + c * p.filterReducedStride;
    vfloat rows[TapsH][widths];
    for (int s = 0; s < TapsH; ++s) {
      vfloat row[TapsW];
      for (int t = 0; t < TapsW; ++t) {
        row[t] = loadFirst(taps + (tapOf<TapsH>(s) * 3 + tapOf<TapsW>(t)) * p.tapStride, p.channels);
      }
      filterAxis<TapsW>(row, rows[s]);
    }
    for (int w = 0; w < widths; ++w) {
      vfloat column[TapsH], out[heights];
      for (int s = 0; s < TapsH; ++s) column[s] = rows[s][w];
      filterAxis<TapsH>(column, out);
      for (int h = 0; h < heights; ++h)
        store(to + (h * kPitch<Outputs, TapsW> + w) * p.frequencyStride, out[h]);
    }
  }
}

template <int Outputs, int TapsH, int TapsW>
void filterGradient(const WinogradFilterGradient& p) {
  constexpr int rows = kAxis<Outputs, TapsH>, width = kAxis<Outputs, TapsW>;
  for (int64_t channel = 0; channel < p.channels; channel += kLanes) {
    vfloat widths[rows][TapsW];
    for (int h = 0; h < rows; ++h) {
      vfloat line[width];
      for (int w = 0; w < width; ++w) {
        const float* from = p.sums + (h * kPitch<Outputs, TapsW> + w) * p.frequencyStride + channel;
        line[w] = load(from);
        for (int64_t slab = 1; slab < p.slabs; ++slab) line[w] += load(from + slab * p.slabStride);
      }
      filterGradientAxis<TapsW>(line, widths[h]);
    }
    for (int t = 0; t < TapsW; ++t) {
      vfloat column[rows], heights[TapsH];
      for (int h = 0; h < rows; ++h) column[h] = widths[h][t];
      filterGradientAxis<TapsH>(column, heights);
      for (int s = 0; s < TapsH; ++s) {
        const int tap = tapOf<TapsH>(s) * 3 + tapOf<TapsW>(t);
        storeFirst(p.taps + tap * p.tapStride + channel, heights[s], p.channels - channel);
      }
    }
  }
}

template <int Outputs, int TapsH, int TapsW, Source source>
void transformSources(const Winograd2dTiles& t) {
  forChannels<sourceChannels<Outputs, TapsH, TapsW, source, false>,
              sourceChannels<Outputs, TapsH, TapsW, source, true>>(t);
}

// A gradient meets all taps: its transform is that of the phase with the most frequencies.
template <int Outputs, int TapsH, int TapsW>
constexpr Winograd2dKernels kernelsOf() {
  constexpr int most = TapsW == 3 ? 3 : 2;
  return {
      transformSources<Outputs, TapsH, TapsW, Source::raw>,
      transformSources<Outputs, TapsH, TapsW, Source::normalized>,
      output<Outputs, TapsH, TapsW>,
      filter<Outputs, TapsH, TapsW>,
      forChannels<gradientChannels<Outputs, most, most, false>, gradientChannels<Outputs, most, most, true>>,
      filterGradient<Outputs, TapsH, TapsW>,
  };
}

constexpr Winograd2dTable kTable = {
    kernelsOf<2, 3, 3>(),
    kernelsOf<3, 3, 3>(),
    kernelsOf<4, 3, 3>(),
    {{kernelsOf<4, 2, 2>(), kernelsOf<4, 2, 1>()}, {kernelsOf<4, 1, 2>(), kernelsOf<4, 1, 1>()}},
};

}  // namespace

const Winograd2dTable& winograd2dTable() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
