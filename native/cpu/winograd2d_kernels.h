// The table of transforms behind 2-D Winograd convolution, compiled once per instruction set. Structs of
// plain data only: sources of every instruction set include this file.
//
// F(2x2, 3x3), F(3x3, 3x3) and F(4x4, 3x3): a tile of `outputs` x `outputs` outputs reads f x f source
// voxels, f = outputs + 2, and multiplies at f * f frequencies, numbered [height][width]. Lavin and Gray,
// "Fast algorithms for convolutional neural networks", CVPR 2016; the transforms along one axis are those of
// winograd_transforms.h, the products those of winograd_products.h. With stride 2 a tile has four phases, of
// one or two taps along each axis, and f = outputs + 1; their transforms are those of
// winograd_phase_transforms.h. Tiles of whole maps have f = 2 * outputs - 1: winograd_axes.h.
#pragma once

#include "channel_sums.h"
#include "source_norm.h"
#include "winograd_kernels.h"

namespace voxgrad {
namespace cpu {

// Neighbouring tiles along W, of the source or, for the weight gradient, of the output gradient.
struct Winograd2dTiles {
  const float* rows[6];  // at the heights of the tiles: f of the source, `outputs` of an output gradient
  int64_t channels, voxelStride;
  int64_t begin, step;  // first voxel of the first tile; from one to the next
  int64_t width;        // voxels outside [0, width) count as zero
  int64_t tiles;
  float* transformed;  // [f * f][panels][tiles][kWinogradVectors][lanes], strides apart
  int64_t frequencyStride, panelStride, tileStride;
  // For `normalizedSource`: what is applied to a source, and -1 for rows that are in it, 0 in the padding.
  SourceNorm norm;
  int32_t inside[6];
};

// The outputs of neighbouring tiles along W and one block of channels.
struct Winograd2dOutput {
  const float* products;  // [f * f][tiles][vectors][lanes]
  int64_t frequencyStride, vectors, tiles;
  float* rows[4];               // at the first tile's voxel and the block's channel; null to skip
  int64_t voxels;               // left in a row, from the first tile on
  int64_t skip = 0;             // of these, that lie before the row
  int64_t voxelStride;          // floats
  const float* bias;            // [vectors][lanes]
  int64_t channels;             // to store
  bool add = false;             // to what the rows hold
  bool streams = false;         // whole vectors, if they are whole lines, are stored past the caches
  ChannelSums* sums = nullptr;  // to add them to, if any
};

// WinogradFilter and WinogradFilterGradient have one plane of f * f frequencies and nine taps here, of which
// a phase takes its own.
struct Winograd2dKernels {
  void (*source)(const Winograd2dTiles&);
  void (*normalizedSource)(const Winograd2dTiles&);
  void (*output)(const Winograd2dOutput&);
  void (*filter)(const WinogradFilter&);
  void (*gradient)(const Winograd2dTiles&);
  void (*filterGradient)(const WinogradFilterGradient&);
};

struct Winograd2dTable {
  Winograd2dKernels tiles[3];  // of 2, 3 and 4 outputs along both axes
  // F(4x4, 3x3) with stride 2: [H][W], 0 for the phase of two taps and 1 for that of one. Frequencies have
  // the numbers of two taps, 5 to a row, whatever the phase; the gradient is the same for all phases.
  Winograd2dKernels phases[2][2];
  // For maps of one to three voxels along H and along W, each a tile. With one or two of them neighbouring
  // maps share no source.
  Winograd2dKernels maps[3][3];
};

}  // namespace cpu
}  // namespace voxgrad
