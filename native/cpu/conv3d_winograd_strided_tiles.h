// Tiles of Winograd convolution with stride 2 along H and W, F(4x4, 3x3) of the phases: which source voxels
// they read and which outputs they write, in the slices of one depth of all samples.
//
// Forward: 4x4 outputs. Every other voxel along an axis is a phase of the source; the first one meets the
// first and the last tap, the second one the middle tap. A tile of the transformed source holds the four
// phases of some channels side by side, so that the products sum over them. A frequency at infinity
// leaves out the phases of one tap; their order puts what it takes side by side.
// Input gradient: 5x5 voxels of the output gradient give 8x8 of dx, in four phases that have filters of their
// own. Here the output has phases, and the frequencies at infinity are left out of those of one tap.
#pragma once

#include "conv3d_geometry.h"
#include "isa.h"

namespace voxgrad::cpu {

struct WinogradPhase {
  int taps[2];  // along H and W, as the index of Winograd2dTable::phases
};
constexpr WinogradPhase kWinogradPhases[4] = {{{1, 0}}, {{0, 0}}, {{0, 1}}, {{1, 1}}};

// Frequencies first, first + stride, ... that all take the phases [firstPhase, firstPhase + phases).
struct WinogradFrequencies {
  int64_t first, stride, count, firstPhase, phases;
};
constexpr WinogradFrequencies kPhaseFrequencies[] = {{0, 1, 4, 0, 4},  {5, 1, 4, 0, 4}, {10, 1, 4, 0, 4},
                                                     {15, 1, 4, 0, 4}, {4, 5, 4, 0, 2}, {20, 1, 4, 1, 2},
                                                     {24, 1, 1, 1, 1}};

// The set of a frequency.
inline WinogradFrequencies phaseFrequency(int64_t f) {
  const bool height = f / 5 == 4, width = f % 5 == 4;
  return {f, 1, 1, height ? 1 : 0, height && width ? 1 : height || width ? 2 : 4};
}

struct WinogradStridedTiles {
  static constexpr int64_t kOutputs = 4, kFrequencies = 25, kSliceTaps = 9;
  static constexpr double kProducts = 81;  // of a tile and a pair of channels, in all phases

  bool inputGradient;
  int64_t samples;
  // Along H and W. The first tile reads the source from `begin` on, and writes the output from `first` on,
  // which is -1 where a tile begins before the output.
  int64_t sourceExtent[2], outputExtent[2], begin[2], first[2];
  int64_t sourceEnd[2];  // source voxels from here on are read by no output
  int64_t sourceChannels;

  WinogradStridedTiles(const Conv3dProblem& p, bool inputGradient)
      : inputGradient(inputGradient), samples(p.N), sourceChannels(inputGradient ? p.K : p.C) {
    const int64_t x[2] = {p.H, p.W}, y[2] = {p.P, p.Q};
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t pad = p.pad[axis + 1];
      sourceExtent[axis] = inputGradient ? y[axis] : x[axis];
      outputExtent[axis] = inputGradient ? x[axis] : y[axis];
      begin[axis] = inputGradient ? (pad + 1) / 2 - 1 : -pad;
      first[axis] = inputGradient ? 2 * begin[axis] + 1 - pad : 0;
      sourceEnd[axis] = inputGradient ? sourceExtent[axis] : std::min(x[axis], 2 * y[axis] + 1 - pad);
    }
  }

  static int64_t lanes() { return winogradKernels().lanes; }
  int64_t sourcePhases() const { return inputGradient ? 1 : 4; }
  int64_t outputPhases() const { return inputGradient ? 4 : 1; }
  // Voxels from a tile to the next.
  int64_t sourceStep() const { return inputGradient ? kOutputs : 2 * kOutputs; }
  int64_t outputStep() const { return inputGradient ? 2 * kOutputs : kOutputs; }
  int64_t along(int axis) const { return divideUp(outputExtent[axis] - first[axis], outputStep()); }
  int64_t count() const { return samples * along(0) * along(1); }
  int64_t sourceRow() const { return sourceExtent[1] * sourceChannels; }
  int64_t sourceSlice() const { return sourceExtent[0] * sourceRow(); }

  // Channels of a transformed tile that lie side by side: where the source has phases, a panel, as
  // Winograd2dTiles has them, so that its phases can lie side by side as well.
  int64_t chunk() const {
    return inputGradient ? sourceChannels : std::min(sourceChannels, kWinogradVectors * lanes());
  }
  int64_t chunkChannels(int64_t chunk) const {
    return std::min(this->chunk(), sourceChannels - chunk * this->chunk());
  }
  int64_t chunks() const { return divideUp(sourceChannels, chunk()); }
  // Floats of a chunk of a transformed tile at one frequency: whole vectors of the last phase fit.
  int64_t tileFloats() const {
    return divideUp((sourcePhases() - 1) * chunk() + divideUp(chunk(), lanes()) * lanes(), lanes()) * lanes();
  }

  // Visits the runs of tiles [firstTile, firstTile + tiles) that are neighbours along W, with their place in
  // that range, the sample, row and column of the first one, and their number.
  template <typename Visit>
  void forEachRow(int64_t firstTile, int64_t tiles, Visit visit) const {
    for (int64_t done = 0; done < tiles;) {
      const int64_t tile = firstTile + done, column = tile % along(1), row = tile / along(1);
      const int64_t count = std::min(tiles - done, along(1) - column);
      visit(done, row / along(0), row % along(0), column, count);
      done += count;
    }
  }

  // The source of tiles [firstTile, firstTile + tiles):
  // [frequency][chunk][tile][phase][channel]. `source` is the slice of the first sample, and samples are
  // sampleFloats apart.
  void transformSource(const Winograd2dTable& table, const float* source, int64_t sampleFloats,
                       int64_t firstTile, int64_t tiles, const float* zeroRow, float* transformed,
                       int64_t frequencyStride, int64_t chunkStride) const {
    const int64_t phases = sourcePhases(), step = inputGradient ? 1 : 2;
    forEachRow(firstTile, tiles,
               [&](int64_t done, int64_t sample, int64_t row, int64_t column, int64_t count) {
                 const float* const slice = source + sample * sampleFloats;
                 for (int64_t i = 0; i < phases; ++i) {
                   const WinogradPhase phase = inputGradient ? WinogradPhase{{0, 0}} : kWinogradPhases[i];
                   Winograd2dTiles part;
                   for (int64_t t = 0; t <= kOutputs; ++t) {
                     const int64_t h = begin[0] + row * sourceStep() + phase.taps[0] + t * step;
                     part.rows[t] = h >= 0 && h < sourceEnd[0] ? slice + h * sourceRow() : zeroRow;
                   }
                   part.channels = part.voxelStride = sourceChannels;
                   part.width = sourceEnd[1];
                   part.begin = begin[1] + column * sourceStep() + phase.taps[1];
                   part.step = step;
                   part.tiles = count;
                   part.transformed = transformed + done * tileFloats() + i * chunk();
                   part.frequencyStride = frequencyStride;
                   part.panelStride = inputGradient ? kWinogradVectors * lanes() : chunkStride;
                   part.tileStride = tileFloats();
                   table.phases[phase.taps[0]][phase.taps[1]].source(part);
                 }
               });
  }

  // The same of one slice of `slices` in all samples; zeros where it is not one of them.
  void transformSlice(const Winograd2dTable& table, const float* source, int64_t slices, int64_t slice,
                      int64_t firstTile, int64_t tiles, const float* zeroRow, float* transformed,
                      int64_t frequencyStride, int64_t chunkStride) const {
    if (slice >= 0 && slice < slices) {
      transformSource(table, source + slice * sourceSlice(), slices * sourceSlice(), firstTile, tiles,
                      zeroRow, transformed, frequencyStride, chunkStride);
      return;
    }
    for (int64_t f = 0; f < kFrequencies; ++f) {
      for (int64_t chunk = 0; chunk < chunks(); ++chunk)
        std::fill_n(transformed + f * frequencyStride + chunk * chunkStride, tiles * tileFloats(), 0.0f);
    }
  }

  // An output gradient of `channels` at the outputs of tiles [firstTile, firstTile + tiles) of the forward
  // pass: [frequency][tile][channel]. `dy` is the slice of the first sample, and samples are sampleFloats
  // apart.
  void transformGradient(const Winograd2dTable& table, const float* dy, int64_t sampleFloats,
                         int64_t channels, int64_t firstTile, int64_t tiles, const float* zeroRow,
                         float* transformed, int64_t frequencyStride, int64_t tileStride) const {
    forEachRow(
        firstTile, tiles, [&](int64_t done, int64_t sample, int64_t row, int64_t column, int64_t count) {
          Winograd2dTiles part;
          for (int64_t i = 0; i < kOutputs; ++i) {
            const int64_t h = row * kOutputs + i;
            const bool inside = h < outputExtent[0];
            part.rows[i] = inside ? dy + sample * sampleFloats + h * outputExtent[1] * channels : zeroRow;
          }
          part.channels = part.voxelStride = channels;
          part.width = outputExtent[1];
          part.begin = column * kOutputs;
          part.step = 1;
          part.tiles = count;
          part.transformed = transformed + done * tileStride;
          part.frequencyStride = frequencyStride;
          part.panelStride = kWinogradVectors * lanes();
          part.tileStride = tileStride;
          table.phases[0][0].gradient(part);
        });
  }

  // The outputs of tiles [firstTile, firstTile + tiles), of one phase where the output has phases: `vectors`
  // of channels from `channel` on, of `channels` in all, with their bias.
  void storeOutput(const Winograd2dTable& table, WinogradPhase phase, int64_t firstTile, int64_t tiles,
                   const float* products, int64_t frequencyStride, int64_t vectors, const float* bias,
                   int64_t channels, int64_t channel, float* output, int64_t sampleFloats) const {
    const int64_t width = vectors * lanes(), step = inputGradient ? 2 : 1;
    // The first output of a tile belongs to the phase of one tap.
    const auto place = [&](int axis, int64_t tile) {
      return first[axis] + tile * outputStep() + (inputGradient ? 1 - phase.taps[axis] : 0);
    };
    forEachRow(firstTile, tiles,
               [&](int64_t done, int64_t sample, int64_t row, int64_t column, int64_t count) {
                 float* const slice = output + sample * sampleFloats;
                 const int64_t w = place(1, column);
                 Winograd2dOutput part;
                 part.vectors = vectors;
                 part.products = products + done * width;
                 part.frequencyStride = frequencyStride;
                 part.tiles = count;
                 for (int64_t i = 0; i < kOutputs; ++i) {
                   const int64_t h = place(0, row) + i * step;
                   const bool inside = h >= 0 && h < outputExtent[0];
                   part.rows[i] = inside ? slice + (h * outputExtent[1] + w) * channels + channel : nullptr;
                 }
                 part.voxels = divideUp(outputExtent[1] - w, step);
                 part.skip = w < 0 ? 1 : 0;
                 part.voxelStride = step * channels;
                 part.bias = bias;
                 part.channels = channels - channel;
                 table.phases[phase.taps[0]][phase.taps[1]].output(part);
               });
  }
};

}  // namespace voxgrad::cpu
