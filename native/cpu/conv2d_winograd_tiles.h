// Tiles of outputs of a convolution with kernel 1x3x3 and stride 1, or of its input gradient: 2x2, 3x3 or
// 4x4.
//
// A dilated convolution is one undilated convolution for each of the interleaved sub-maps whose voxels lie
// `dilation` apart: the tiles of a sub-map are as if it were alone, with steps of `dilation` voxels. Sub-maps
// that have three voxels or fewer along both axes may be a tile each.
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

// Sub-maps along an axis that have the same number of voxels.
struct MapRange {
  int64_t first, maps, voxels;
};

// Where transformed tiles go; strides as in Winograd2dTiles.
struct TransformedTiles {
  float* data;
  int64_t frequencyStride, panelStride, tileStride;
};

struct Conv2dTiles {
  const Winograd2dKernels* kernels;
  int64_t outputs[2], sources[2], axisFrequencies[2];  // of a tile, along H and W
  int64_t firstMap[2], maps[2], along[2];              // sub-maps, and the tiles of one of them
  int64_t slices;                                      // of the outputs, in all samples
  // Along H and W. Output o reads the source voxels o - pad + t * step, t < 3. A negative pad skips voxels.
  int64_t sourceExtent[2], outputExtent[2], pad[2], step[2];
  // Source voxels from here on are read by no output: as zeros they leave nothing to cancel in a partial
  // tile.
  int64_t sourceEnd[2];
  int64_t sourceChannels;
  int64_t sourcePitch, outputPitch;  // floats from one voxel to the next
  bool adds;                         // to the outputs

  // The tiles of `p`, which fits, with `outputs` 2, 3 or 4.
  Conv2dTiles(const Conv3dProblem& p, bool inputGradient, int64_t outputs);

  // Those sub-maps of `p` that are in both ranges, of one to three voxels along each axis. Its padding must
  // be its dilation, and its outputs as many as its inputs.
  Conv2dTiles(const Conv3dProblem& p, bool inputGradient, const MapRange& h, const MapRange& w);

  int64_t frequencies() const { return axisFrequencies[0] * axisFrequencies[1]; }
  int64_t inSlice() const { return maps[0] * along[0] * maps[1] * along[1]; }
  int64_t count() const { return slices * inSlice(); }
  int64_t sourceRow() const { return sourceExtent[1] * sourcePitch; }
  int64_t outputRow() const { return outputExtent[1] * outputPitch; }

  // The source of tiles [first, first + tiles).
  void transformSource(int64_t first, int64_t tiles, const ConvolutionSource& source, const float* zeroRow,
                       const TransformedTiles& to) const;

  // An output gradient `dy` of `channels` at the outputs of tiles [first, first + tiles).
  void transformGradient(int64_t first, int64_t tiles, const float* dy, int64_t channels,
                         const float* zeroRow, const TransformedTiles& to) const;

  // The outputs of tiles [first, first + tiles): `vectors` of channels from `channel` on, of `channels` in
  // all, with their bias; added to `sums` unless null.
  void storeOutput(int64_t first, int64_t tiles, const float* products, int64_t frequencyStride,
                   int64_t vectors, const float* bias, int64_t channels, int64_t channel, float* output,
                   ChannelSums* sums = nullptr, bool streams = false) const;

 private:
  Conv2dTiles(const Conv3dProblem& p, bool inputGradient);

  // Visits the runs of tiles [first, first + tiles) that are neighbours along W, with their place in that
  // range, their slice, height and width of the first output of the first one, and their number.
  template <typename Visit>
  void forEachRow(int64_t first, int64_t tiles, Visit visit) const;
};

}  // namespace voxgrad::cpu
