// Tiles of 2x2, 3x3 or 4x4 outputs of a convolution with kernel 1x3x3 and stride 1, or of its input gradient.
//
// A dilated convolution is one undilated convolution for each of the interleaved sub-maps whose voxels lie
// `dilation` apart: the tiles of a sub-map are as if it were alone, with steps of `dilation` voxels.
#pragma once

#include "conv3d_geometry.h"
#include "convolution.h"
#include "isa.h"

namespace voxgrad::cpu {

// Kernel 1x3x3, stride and groups 1; any padding and dilation along H and W, none along D.
inline bool winograd2dFits(const Conv3dProblem& p) {
  return p.R == 1 && p.S == 3 && p.T == 3 && p.groups == 1 && p.stride[0] == 1 && p.stride[1] == 1 &&
         p.stride[2] == 1 && p.pad[0] == 0 && p.Z == p.D;
}

struct Conv2dTiles {
  int64_t outputs;  // of a tile along an axis
  int64_t slices;   // of the outputs, in all samples
  // Along H and W. Output o reads the source voxels o - pad + t * step, t < 3. A negative pad skips voxels.
  int64_t sourceExtent[2], outputExtent[2], pad[2], step[2];
  // Source voxels from here on are read by no output: as zeros they leave nothing to cancel in a partial
  // tile.
  int64_t sourceEnd[2];
  int64_t sourceChannels;
  int64_t sourcePitch, outputPitch;  // floats from one voxel to the next
  bool adds;                         // to the outputs

  // The tiles of `p`, which fits, with `outputs` 2, 3 or 4.
  Conv2dTiles(const Conv3dProblem& p, bool inputGradient, int64_t outputs)
      : outputs(outputs),
        slices(p.N * (inputGradient ? p.D : p.Z)),
        sourceChannels(inputGradient ? p.K : p.C),
        sourcePitch(inputGradient ? p.yVoxel() : p.xVoxel()),
        outputPitch(inputGradient ? p.xVoxel() : p.yVoxel()),
        adds(p.adds) {
    const int64_t x[2] = {p.H, p.W}, y[2] = {p.P, p.Q};
    for (int axis = 0; axis < 2; ++axis) {
      sourceExtent[axis] = inputGradient ? y[axis] : x[axis];
      outputExtent[axis] = inputGradient ? x[axis] : y[axis];
      step[axis] = p.dilation[axis + 1];
      pad[axis] = inputGradient ? 2 * step[axis] - p.pad[axis + 1] : p.pad[axis + 1];
      sourceEnd[axis] = std::min(sourceExtent[axis], outputExtent[axis] + 2 * step[axis] - pad[axis]);
    }
  }

  int64_t frequencies() const { return (outputs + 2) * (outputs + 2); }
  // Sub-maps along an axis, and the tiles of one of them.
  int64_t maps(int axis) const { return std::min(step[axis], outputExtent[axis]); }
  int64_t along(int axis) const { return divideUp(divideUp(outputExtent[axis], step[axis]), outputs); }
  int64_t inSlice() const { return maps(0) * along(0) * maps(1) * along(1); }
  int64_t count() const { return slices * inSlice(); }
  int64_t sourceRow() const { return sourceExtent[1] * sourcePitch; }
  int64_t outputRow() const { return outputExtent[1] * outputPitch; }

  // Visits the runs of tiles [first, first + tiles) that are neighbours along W, with their place in that
  // range, their slice, height and width of the first output of the first one, and their number.
  template <typename Visit>
  void forEachRow(int64_t first, int64_t tiles, Visit visit) const {
    for (int64_t done = 0; done < tiles;) {
      int64_t rest = first + done;
      const auto take = [&rest](int64_t radix) {
        const int64_t digit = rest % radix;
        rest /= radix;
        return digit;
      };
      const int64_t column = take(along(1)), mapColumn = take(maps(1));
      const int64_t row = take(along(0)), mapRow = take(maps(0)), slice = rest;
      const int64_t count = std::min(tiles - done, along(1) - column);
      visit(done, slice, mapRow + row * outputs * step[0], mapColumn + column * outputs * step[1], count);
      done += count;
    }
  }

  // The source of tiles [first, first + tiles); strides as in Winograd2dTiles.
  void transformSource(const Winograd2dKernels& kernels, int64_t first, int64_t tiles,
                       const ConvolutionSource& source, const float* zeroRow, float* transformed,
                       int64_t frequencyStride, int64_t panelStride, int64_t tileStride) const {
    forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t width, int64_t count) {
      Winograd2dTiles part;
      for (int64_t t = 0; t < outputs + 2; ++t) {
        const int64_t h = height - pad[0] + t * step[0];
        const bool inside = h >= 0 && h < sourceEnd[0];
        part.rows[t] = inside ? source.data + (slice * sourceExtent[0] + h) * sourceRow() : zeroRow;
        part.inside[t] = inside ? -1 : 0;
      }
      part.channels = sourceChannels;
      part.voxelStride = sourcePitch;
      part.width = sourceEnd[1];
      part.begin = width - pad[1];
      part.step = step[1];
      part.tiles = count;
      part.transformed = transformed + done * tileStride;
      part.frequencyStride = frequencyStride;
      part.panelStride = panelStride;
      part.tileStride = tileStride;
      if (source.norm) {
        part.norm = *source.norm;
        kernels.normalizedSource(part);
      } else {
        kernels.source(part);
      }
    });
  }

  // An output gradient `dy` of `channels` at the outputs of tiles [first, first + tiles).
  void transformGradient(const Winograd2dKernels& kernels, int64_t first, int64_t tiles, const float* dy,
                         int64_t channels, const float* zeroRow, float* transformed, int64_t frequencyStride,
                         int64_t panelStride, int64_t tileStride) const {
    forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t width, int64_t count) {
      Winograd2dTiles part;
      for (int64_t i = 0; i < outputs; ++i) {
        const int64_t h = height + i * step[0];
        const bool inside = h < outputExtent[0];
        part.rows[i] = inside ? dy + (slice * outputExtent[0] + h) * outputRow() : zeroRow;
      }
      part.channels = channels;
      part.voxelStride = outputPitch;
      part.width = outputExtent[1];
      part.begin = width;
      part.step = step[1];
      part.tiles = count;
      part.transformed = transformed + done * tileStride;
      part.frequencyStride = frequencyStride;
      part.panelStride = panelStride;
      part.tileStride = tileStride;
      kernels.gradient(part);
    });
  }

  // The outputs of tiles [first, first + tiles): `vectors` of channels from `channel` on, of `channels` in
  // all, with their bias; added to `sums` unless null.
  void storeOutput(const Winograd2dKernels& kernels, int64_t first, int64_t tiles, const float* products,
                   int64_t frequencyStride, int64_t vectors, const float* bias, int64_t channels,
                   int64_t channel, float* output, ChannelSums* sums = nullptr, bool streams = false) const {
    const int64_t width = vectors * winogradKernels().lanes;
    forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t w, int64_t count) {
      Winograd2dOutput part;
      part.vectors = vectors;
      part.sums = sums;
      part.products = products + done * width;
      part.frequencyStride = frequencyStride;
      part.tiles = count;
      int64_t rows = 0;
      for (int64_t i = 0; i < outputs; ++i) {
        const int64_t h = height + i * step[0];
        rows += h < outputExtent[0];
        const int64_t place = (slice * outputExtent[0] + h) * outputRow() + w * outputPitch;
        part.rows[i] = h < outputExtent[0] ? output + place + channel : nullptr;
      }
      part.voxels = divideUp(outputExtent[1] - w, step[1]);
      part.voxelStride = step[1] * outputPitch;
      part.bias = bias;
      part.channels = channels - channel;
      part.add = adds;
      part.streams = streams;
      kernels.output(part);
      if (sums) sums->voxels += rows * std::min(part.voxels, outputs * count);
    });
  }
};

inline const Winograd2dKernels& winograd2dKernels(int64_t outputs) {
  const Winograd2dTable& table = winograd2dTable();
  return outputs == 2 ? table.two : outputs == 3 ? table.three : table.four;
}

}  // namespace voxgrad::cpu
