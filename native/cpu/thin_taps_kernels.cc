// Micro-kernels of convolutions of several taps to a few channels. Compiled once per instruction set; see
// simd.h.
#include "thin_taps_kernels.h"

#include "simd_sum_lanes.h"
#include "simd_taps.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Every output has a vector of sums, lanes being channels of the source. A tile of outputs has as many as
// stay in registers, beside the weights of three taps and a source, whatever the compiler moves meanwhile.
// For one channel it is of two rows, which share what they read.
template <int Channels>
struct Tile {
  static constexpr int kVoxelsOf[kMaxThinTapsChannels] = {5, 6, 2, 2}, kWideVoxelsOf[] = {8, 8, 5, 4};
  static constexpr int kRows = Channels == 1 ? 2 : 1;
  static constexpr int kVoxels = (kLanes == 16 ? kWideVoxelsOf : kVoxelsOf)[Channels - 1];
  vfloat sums[kRows][Channels][kVoxels] = {};
};

// Adds what Taps taps read of a row of the source to all rows of the output that read it, and all channels.
template <int Taps, int Channels, typename Load>
VOXGRAD_INLINE void addRow(Tile<Channels>& tile, const SourceRow& row, int64_t weights, int64_t nextTap,
                           Load loadPlace) {
#pragma GCC unroll 3
  for (int r = 0; r < Tile<Channels>::kRows; ++r) {
    if (!row.weights[r]) continue;
    const float* const own = row.weights[r] + weights;
#pragma GCC unroll 4
    for (int k = 0; k < Channels; ++k) addTaps<Taps>(tile.sums[r][k], own + k * kLanes, nextTap, loadPlace);
  }
}

// Adds what the taps of a run read in all rows of the source, for voxels that begin at the source voxel `at`.
template <int Channels, int Taps>
VOXGRAD_INLINE void addRun(Tile<Channels>& tile, const GatheredRows& rows, const TapRun& taps, int64_t at) {
  constexpr int kPlaces = Tile<Channels>::kVoxels + Taps - 1;
  const int64_t reduced = rows.channels, nextTap = rows.nextTap, vectorWeights = rows.vectorWeights;
  const int64_t first = at + taps.place, last = first + (kPlaces - 1) * rows.sourceStep;
  const SourceRow* const end = rows.sources + rows.sourceRows;
  if (first >= 0 && last < rows.sourceVoxels && reduced % kLanes == 0) {
    const int64_t step = rows.sourceStep * reduced;
    for (const SourceRow* row = rows.sources; row < end; ++row) {
      if (row->ahead) {
        const float* const ahead = row->ahead + first * reduced;
        for (int64_t i = 0; i < Tile<Channels>::kVoxels * step; i += 16) __builtin_prefetch(ahead + i, 0, 2);
      }
      int64_t weights = taps.weights;
      for (int64_t at = first * reduced; at < (first + 1) * reduced; at += kLanes, weights += vectorWeights) {
        const float* const place = opaque(row->source + at);
        addRow<Taps>(
            tile, *row, weights,
            nextTap, [&](int i) __attribute__((always_inline)) { return load(place + i * step); });
      }
    }
    return;
  }
  // Outside of the row the first voxel is read, and masked.
  int64_t offsets[kPlaces];
  vint masks[kPlaces];
  for (int i = 0; i < kPlaces; ++i) {
    const int64_t voxel = first + i * rows.sourceStep;
    const bool read = static_cast<uint64_t>(voxel) < static_cast<uint64_t>(rows.sourceVoxels);
    offsets[i] = read ? voxel * reduced : 0;
    masks[i] = vint{} - (read ? 1 : 0);
  }
  int64_t weights = taps.weights;
  for (int64_t c = 0; c < reduced; c += kLanes, weights += vectorWeights) {
    const int64_t left = reduced - c;
    for (const SourceRow* row = rows.sources; row < end; ++row) {
      const float* const from = row->source + c;
      addRow<Taps>(
          tile, *row, weights, nextTap, [&](int i) __attribute__((always_inline)) {
            const vfloat source =
                left < kLanes ? loadFirst(from + offsets[i], left) : load(from + offsets[i]);
            return reinterpret_cast<vfloat>(masks[i] & reinterpret_cast<vint>(source));
          });
    }
  }
}

// Sums wait in a buffer until as many follow one another as make vectors of outputs.
template <int Channels>
void tapsRows(const GatheredRows& rows) {
  using Sums = Tile<Channels>;
  constexpr int kSegment = 16 * Sums::kVoxels, kSums = kSegment * Channels;
  static_assert(kSums % kLanes == 0 && kSegment % Sums::kVoxels == 0);
  alignas(64) float buffer[Sums::kRows][kSums][kLanes];
  vfloat bias[Channels] = {};
  for (int i = 0; rows.bias && i < Channels * kLanes; ++i)
    bias[i / kLanes][i % kLanes] = rows.bias[i % Channels];
  for (int64_t first = 0; first < rows.voxels; first += kSegment) {
    const int64_t voxels = rows.voxels - first < kSegment ? rows.voxels - first : kSegment;
    for (int64_t voxel = 0; voxel < voxels; voxel += Sums::kVoxels) {
      const int64_t at = (first + voxel) * rows.sourceStep;
      Sums tile;
      for (int64_t i = 0; i < rows.runs; ++i) {
        const TapRun& taps = rows.taps[i];
        if (taps.count == 1) {
          addRun<Channels, 1>(tile, rows, taps, at);
        } else if (taps.count == 2) {
          addRun<Channels, 2>(tile, rows, taps, at);
        } else {
          addRun<Channels, 3>(tile, rows, taps, at);
        }
      }
#pragma GCC unroll 24
      for (int i = 0; i < Sums::kRows * Channels * Sums::kVoxels; ++i) {
        const int v = i % Sums::kVoxels, k = i / Sums::kVoxels % Channels, r = i / Sums::kVoxels / Channels;
        store(buffer[r][(voxel + v) * Channels + k], tile.sums[r][k][v]);
      }
    }
    const int64_t floats = voxels * Channels;
    for (int64_t r = 0; r < rows.rows; ++r) {
      for (int64_t i = floats; i % kLanes != 0; ++i) store(buffer[r][i], vfloat{});
      float* const output = rows.outputs[r] + first * rows.outputStep * Channels;
      for (int64_t at = 0; at < floats; at += kLanes) {
        const auto sumsOf = [&](int i) __attribute__((always_inline)) { return load(buffer[r][at + i]); };
        const vfloat outputs = sumLanes<kLanes>(sumsOf, 0) + bias[at / kLanes % Channels];
        if (rows.outputStep == 1) {
          storeFirst(output + at, outputs, floats - at);
          continue;
        }
        float lanes[kLanes];
        store(lanes, outputs);
        for (int64_t i = at; i < at + kLanes && i < floats; ++i)
          output[i / Channels * rows.outputStep * Channels + i % Channels] = lanes[i - at];
      }
    }
  }
}

constexpr ThinTapsKernels kTable = {kLanes,
                                    {Tile<1>::kRows, Tile<2>::kRows, Tile<3>::kRows, Tile<4>::kRows},
                                    {tapsRows<1>, tapsRows<2>, tapsRows<3>, tapsRows<4>}};

}  // namespace

const ThinTapsKernels& thinTapsKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
