// Micro-kernels of depthwise convolutions: lanes are channels. Compiled once per instruction set; see simd.h.
#include "depthwise_kernels.h"

#include "simd_taps.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Sums that stay in registers, beside the weights of three taps and a source.
constexpr int kSums = kLanes == 16 ? 20 : 10;

// Which of what a tile of voxels reads by a run of taps lies inside of the row: [begin, end), from `first`
// on.
struct Places {
  int64_t first;  // voxel of the source
  int64_t begin, end;
};

VOXGRAD_INLINE Places placesOf(const GatheredRows& rows, const TapRun& taps, int64_t voxel, int64_t tile) {
  const int64_t count = tile + taps.count - 1, step = rows.sourceStep;
  Places places{voxel * step + taps.place, 0, count};
  while (places.begin < count && places.first + places.begin * step < 0) ++places.begin;
  while (places.end > places.begin && places.first + (places.end - 1) * step >= rows.sourceVoxels)
    --places.end;
  return places;
}

// Adds what the taps of a run read in all rows of the source; `loadPlace(place, i)` is what the first reads
// for voxel i.
template <int Taps, int Rows, int Tile, typename Load>
VOXGRAD_INLINE void addRows(vfloat (&sums)[Rows][Tile], const GatheredRows& rows, int64_t weights,
                            int64_t first, Load loadPlace) {
  const int64_t nextTap = rows.nextTap;
  const SourceRow* const end = rows.sources + rows.sourceRows;
  for (const SourceRow* row = rows.sources; row < end; ++row) {
    const float* const place = opaque(row->source + first);
#pragma GCC unroll 2
    for (int r = 0; r < Rows; ++r) {
      if (!row->weights[r]) continue;
      addTaps<Taps>(
          sums[r], row->weights[r] + weights,
          nextTap, [&](int i) __attribute__((always_inline)) { return loadPlace(place, i); });
    }
  }
}

template <int Taps, int Rows, int Tile>
VOXGRAD_INLINE void addRun(vfloat (&sums)[Rows][Tile], const GatheredRows& rows, const Places& places,
                           int64_t weights, int64_t channel) {
  const int64_t step = rows.sourceStep * rows.channels, left = rows.channels - channel;
  const int64_t first = places.first * rows.channels + channel, begin = places.begin, end = places.end;
  if (left < kLanes) {
    addRows<Taps>(
        sums, rows, weights, first, [=](const float* place, int i) __attribute__((always_inline)) {
          return i >= begin && i < end ? loadFirst(place + i * step, left) : vfloat{};
        });
  } else if (begin > 0 || end < Tile + Taps - 1) {
    addRows<Taps>(
        sums, rows, weights, first, [=](const float* place, int i) __attribute__((always_inline)) {
          return i >= begin && i < end ? load(place + i * step) : vfloat{};
        });
  } else {
    addRows<Taps>(
        sums, rows, weights, first, [=](const float* place, int i) __attribute__((always_inline)) {
          return load(place + i * step);
        });
  }
}

// Lines that the next rows read, and that the next tile stores.
template <int Rows>
VOXGRAD_INLINE void fetchAhead(const GatheredRows& rows, int64_t voxel, int64_t channel) {
  constexpr int kTile = kSums / Rows;
  const int64_t first = voxel * rows.sourceStep + rows.taps[0].place, step = rows.outputStep * rows.channels;
  for (int64_t i = 0; i < rows.sourceRows; ++i) {
    const float* const ahead = rows.sources[i].ahead;
    for (int v = 0; ahead && v < kTile; ++v)
      __builtin_prefetch(ahead + (first + v * rows.sourceStep) * rows.channels + channel, 0, 2);
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < kTile; ++v)
      __builtin_prefetch(rows.outputs[r] + (voxel + kTile + v) * step + channel, 1);
  }
}

// The last tile of a row overlaps the one before.
template <int Rows>
void depthwise(const GatheredRows& rows) {
  constexpr int kTile = kSums / Rows;
  Places places[kMaxDepthwiseRuns];
  for (int64_t begin = 0; begin < rows.voxels; begin += kTile) {
    const int64_t voxel = begin + kTile <= rows.voxels || rows.voxels < kTile ? begin : rows.voxels - kTile;
    const int64_t voxels = rows.voxels - voxel < kTile ? rows.voxels - voxel : kTile;
    for (int64_t i = 0; i < rows.runs; ++i) places[i] = placesOf(rows, rows.taps[i], voxel, kTile);
    int64_t vectorWeights = 0;
    for (int64_t channel = 0; channel < rows.channels;
         channel += kLanes, vectorWeights += rows.vectorWeights) {
      const int64_t left = rows.channels - channel;
      vfloat sums[Rows][kTile];
      const vfloat bias = rows.bias ? loadFirst(rows.bias + channel, left) : vfloat{};
#pragma GCC unroll 20
      for (int i = 0; i < Rows * kTile; ++i) sums[i / kTile][i % kTile] = bias;
      if (rows.fetches && channel % 16 == 0) fetchAhead<Rows>(rows, voxel, channel);
      for (int64_t i = 0; i < rows.runs; ++i) {
        const int64_t weights = vectorWeights + rows.taps[i].weights;
        if (rows.taps[i].count == 3) {
          addRun<3>(sums, rows, places[i], weights, channel);
        } else if (rows.taps[i].count == 2) {
          addRun<2>(sums, rows, places[i], weights, channel);
        } else {
          addRun<1>(sums, rows, places[i], weights, channel);
        }
      }
      const int64_t step = rows.outputStep * rows.channels;
      const bool whole = voxels == kTile && left >= kLanes;
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r) {
        float* const output = rows.outputs[r] + voxel * step + channel;
#pragma GCC unroll 20
        for (int i = 0; i < kTile; ++i) {
          if (whole) {
            store(output + i * step, sums[r][i]);
          } else if (i < voxels) {
            storeFirst(output + i * step, sums[r][i], left);
          }
        }
      }
    }
  }
}

void run(const GatheredRows& rows) {
  if (rows.rows == 1) {
    depthwise<1>(rows);
  } else {
    depthwise<2>(rows);
  }
}

// Sums of a row by itself are added to those of the rows before, which keeps them exact.
template <int Rows, int Taps, bool Slides, typename Load>
VOXGRAD_INLINE void sumVector(const DepthwiseSums& work, int64_t channel, Load loadVector) {
  constexpr int kTile = 4;
  const int64_t pitch = work.channels;
  vfloat sums[Rows][Taps] = {};
  int64_t voxel = 0;
  for (; Slides && voxel + kTile <= work.voxels; voxel += kTile) {
    vfloat dy[kTile];
#pragma GCC unroll 4
    for (int i = 0; i < kTile; ++i) dy[i] = loadVector(work.dy + (voxel + i) * pitch + channel);
#pragma GCC unroll 3
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 6
      for (int i = 0; i < kTile + Taps - 1; ++i) {
        const vfloat x = loadVector(work.x[r] + (voxel + i) * work.xStep * pitch + channel);
#pragma GCC unroll 3
        for (int tap = 0; tap < Taps; ++tap) {
          if (i >= tap && i - tap < kTile) multiplyAdd(&sums[r][tap], x, dy[i - tap]);
        }
      }
    }
  }
  for (; voxel < work.voxels; ++voxel) {
    const vfloat dy = loadVector(work.dy + voxel * pitch + channel);
#pragma GCC unroll 3
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 3
      for (int tap = 0; tap < Taps; ++tap) {
        const int64_t at = voxel * work.xStep + tap * work.tapStep;
        multiplyAdd(&sums[r][tap], loadVector(work.x[r] + at * pitch + channel), dy);
      }
    }
  }
#pragma GCC unroll 3
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 3
    for (int tap = 0; tap < Taps; ++tap) {
      float* const to = work.sums[r] + tap * work.nextSum + channel;
      store(to, load(to) + sums[r][tap]);
    }
  }
}

template <int Rows, int Taps, bool Slides>
VOXGRAD_INLINE void sumVectors(const DepthwiseSums& work) {
  for (int64_t channel = work.first; channel < work.end; channel += kLanes) {
    const int64_t left = work.channels - channel;
    if (left >= kLanes) {
      sumVector<Rows, Taps, Slides>(
          work, channel, [](const float* p) __attribute__((always_inline)) { return load(p); });
    } else {
      sumVector<Rows, Taps, Slides>(
          work,
          channel, [left](const float* p) __attribute__((always_inline)) { return loadFirst(p, left); });
    }
  }
}

template <int Rows, int Taps>
void sum(const DepthwiseSums& work) {
  if (work.xStep == work.tapStep) {
    sumVectors<Rows, Taps, true>(work);
  } else {
    sumVectors<Rows, Taps, false>(work);
  }
}

constexpr DepthwiseKernels kTable = {kLanes,
                                     run,
                                     {{sum<1, 1>, sum<1, 2>, sum<1, 3>},
                                      {sum<2, 1>, sum<2, 2>, sum<2, 3>},
                                      {sum<3, 1>, sum<3, 2>, sum<3, 3>}}};

}  // namespace

const DepthwiseKernels& depthwiseKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
