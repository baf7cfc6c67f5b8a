// The table of micro-kernels behind Winograd convolution, compiled once per instruction set. Structs of plain
// data only: sources of every instruction set include this file.
//
// F(2x2x2, 3x3x3), Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section
// 4.1, applied along three axes: a tile of 2x2x2 outputs reads 4x4x4 source voxels. Along one axis, with
// source voxels s, taps g and products m of their transforms,
//   source  [s0 - s2, s1 + s2, s2 - s1, s1 - s3]
//   filter  [g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2]
//   output  [m0 + m1 + m2, m1 - m2 - m3]
// A plane is the 16 frequencies, [height][width], that share one frequency along depth.
#pragma once

#include <stdint.h>

#include "winograd_products.h"

namespace voxgrad {
namespace cpu {

constexpr int kPlanes = 4;
constexpr int kPlaneFrequencies = 16;

// Neighbouring tiles along W, transformed into one plane.
struct WinogradSource {
  // Rows of source voxels at the tiles' four heights; along depth the plane is first + sign * second.
  const float *first[4], *second[4];
  float sign;
  int64_t channels, width;  // of a row
  int64_t begin;            // first voxel of the first tile; voxels outside [0, width) are zero
  int64_t tiles;
  float* transformed;  // [16][tiles][channels rounded up to lanes]
  int64_t frequencyStride, tileStride;
};

// Adds the products of one plane, for neighbouring tiles along W and one block of channels, to the outputs.
// The planes must come in order: the first one that an output gets sets it, bias included.
struct WinogradOutput {
  int64_t plane;
  const float* products;
  int64_t frequencyStride, vectors, tiles;
  float* rows[2][2];    // [depth][height]: at the first tile's voxel and the block's channel; null to skip
  int64_t voxels;       // left in a row, from the first tile on
  int64_t voxelStride;  // floats
  const float* bias;    // [vectors][lanes]
  int64_t channels;     // to store
};

// Filters of `lanes` output channels: for each reduced channel c, 27 vectors of taps at
// taps + c * tapReducedStride + tap * tapStride, transformed to
// filters + plane * planeStride + f * frequencyStride + c * filterReducedStride.
struct WinogradFilter {
  const float* taps;
  int64_t tapReducedStride, tapStride;
  int64_t reduced, channels;  // lanes beyond `channels` are zero
  float* filters;
  int64_t planeStride, frequencyStride, filterReducedStride;
};

// The transposed algorithm sums over tiles the products of transformed source and transformed output gradient
// per frequency, and transforms the sums back:
//   output gradient  [y0, y0 + y1, y0 - y1, -y1]
//   filter gradient  [m0 + (m1 + m2) / 2, (m1 - m2) / 2, (m1 + m2) / 2 + m3]
// Neighbouring tiles of the output gradient, transformed into one plane; as WinogradSource, with two heights.
struct WinogradGradient {
  const float *first[2], *second[2];
  float sign;
  int64_t channels, width, begin, tiles;
  float* transformed;
  int64_t frequencyStride, tileStride;
};

// Sums [slabs][4 planes][16][outputs][vectors][lanes] of one output channel, added over slabs in order and
// transformed to 27 taps of `channels` floats each, tapStride apart.
struct WinogradFilterGradient {
  const float* sums;
  int64_t slabs, slabStride, frequencyStride;
  int64_t channels;
  float* taps;
  int64_t tapStride;
  bool add = false;  // to the taps; with two axes only
};

struct WinogradKernels {
  int lanes;
  void (*source)(const WinogradSource&);
  void (*product)(const WinogradProduct&);
  void (*output)(const WinogradOutput&);
  void (*filter)(const WinogradFilter&);
  void (*gradient)(const WinogradGradient&);
  void (*sum)(const WinogradSum&);
  void (*filterGradient)(const WinogradFilterGradient&);
};

}  // namespace cpu
}  // namespace voxgrad
