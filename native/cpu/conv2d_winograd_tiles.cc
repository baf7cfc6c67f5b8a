#include "conv2d_winograd_tiles.h"

namespace voxgrad::cpu {
namespace {

// `count` neighbouring tiles, `done` after the first of all.
Winograd2dTiles tilesAt(const TransformedTiles& to, int64_t done, int64_t count) {
  Winograd2dTiles part;
  part.tiles = count;
  part.transformed = to.data + done * to.tileStride;
  part.frequencyStride = to.frequencyStride;
  part.panelStride = to.panelStride;
  part.tileStride = to.tileStride;
  return part;
}

}  // namespace

Conv2dTiles::Conv2dTiles(const Conv3dProblem& p, bool inputGradient)
    : slices(p.N * (inputGradient ? p.D : p.Z)),
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

Conv2dTiles::Conv2dTiles(const Conv3dProblem& p, bool inputGradient, int64_t tileOutputs)
    : Conv2dTiles(p, inputGradient) {
  kernels = &winograd2dTable().tiles[tileOutputs - 2];
  for (int axis = 0; axis < 2; ++axis) {
    outputs[axis] = tileOutputs;
    sources[axis] = axisFrequencies[axis] = tileOutputs + 2;
    firstMap[axis] = 0;
    maps[axis] = std::min(step[axis], outputExtent[axis]);
    along[axis] = divideUp(divideUp(outputExtent[axis], step[axis]), tileOutputs);
  }
}

Conv2dTiles::Conv2dTiles(const Conv3dProblem& p, bool inputGradient, const MapRange& h, const MapRange& w)
    : Conv2dTiles(p, inputGradient) {
  kernels = &winograd2dTable().maps[h.voxels - 1][w.voxels - 1];
  for (int axis = 0; axis < 2; ++axis) {
    const MapRange& range = axis == 0 ? h : w;
    const bool padded = range.voxels == 3;
    outputs[axis] = range.voxels;
    sources[axis] = padded ? 5 : range.voxels;
    axisFrequencies[axis] = 2 * range.voxels - 1;
    firstMap[axis] = range.first;
    maps[axis] = range.maps;
    along[axis] = 1;
    if (!padded) pad[axis] = 0;
  }
}

template <typename Visit>
void Conv2dTiles::forEachRow(int64_t first, int64_t tiles, Visit visit) const {
  for (int64_t done = 0; done < tiles;) {
    int64_t rest = first + done;
    const auto take = [&rest](int64_t radix) {
      const int64_t digit = rest % radix;
      rest /= radix;
      return digit;
    };
    const int64_t column = take(along[1]), mapColumn = firstMap[1] + take(maps[1]);
    const int64_t row = take(along[0]), mapRow = firstMap[0] + take(maps[0]), slice = rest;
    const int64_t count = std::min(tiles - done, along[1] - column);
    visit(done, slice, mapRow + row * outputs[0] * step[0], mapColumn + column * outputs[1] * step[1], count);
    done += count;
  }
}

void Conv2dTiles::transformSource(int64_t first, int64_t tiles, const ConvolutionSource& source,
                                  const float* zeroRow, const TransformedTiles& to) const {
  forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t width, int64_t count) {
    Winograd2dTiles part = tilesAt(to, done, count);
    for (int64_t t = 0; t < sources[0]; ++t) {
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
    if (source.norm) {
      part.norm = *source.norm;
      kernels->normalizedSource(part);
    } else {
      kernels->source(part);
    }
  });
}

void Conv2dTiles::transformGradient(int64_t first, int64_t tiles, const float* dy, int64_t channels,
                                    const float* zeroRow, const TransformedTiles& to) const {
  forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t width, int64_t count) {
    Winograd2dTiles part = tilesAt(to, done, count);
    for (int64_t i = 0; i < outputs[0]; ++i) {
      const int64_t h = height + i * step[0];
      const bool inside = h < outputExtent[0];
      part.rows[i] = inside ? dy + (slice * outputExtent[0] + h) * outputRow() : zeroRow;
    }
    part.channels = channels;
    part.voxelStride = outputPitch;
    part.width = outputExtent[1];
    part.begin = width;
    part.step = step[1];
    kernels->gradient(part);
  });
}

void Conv2dTiles::storeOutput(int64_t first, int64_t tiles, const float* products, int64_t frequencyStride,
                              int64_t vectors, const float* bias, int64_t channels, int64_t channel,
                              float* output, ChannelSums* sums, bool streams) const {
  const int64_t width = vectors * winogradKernels().lanes;
  forEachRow(first, tiles, [&](int64_t done, int64_t slice, int64_t height, int64_t w, int64_t count) {
    Winograd2dOutput part;
    part.vectors = vectors;
    part.sums = sums;
    part.products = products + done * width;
    part.frequencyStride = frequencyStride;
    part.tiles = count;
    int64_t rows = 0;
    for (int64_t i = 0; i < outputs[0]; ++i) {
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
    kernels->output(part);
    if (sums) sums->voxels += rows * std::min(part.voxels, outputs[1] * count);
  });
}

}  // namespace voxgrad::cpu
