// The table of micro-kernels behind convolutions to a few channels that turn their source to planar rows
// (conv3d_planar.h), compiled once per instruction set. Structs of plain data only: sources of every
// instruction set include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

constexpr int kMaxPlanarRows = 4;

constexpr int kPlanarTile = 6;  // rows of a tile of Winograd F(4, 3), and points

// Rows of a source of several channels, to be written channel by channel.
struct PlanarRow {
  const float* sources[kPlanarTile];  // [voxels][voxelFloats]: one, or those of a tile
  int64_t voxels, voxelFloats;
  int64_t channels;  // a multiple of the lanes is written, zeros behind the last
  float* planes;     // [channels][pitch]; voxels are written to the next multiple of the lanes, zeros behind
  int64_t pitch;
  int64_t pointFloats;  // from the planes of a point of the tile to those of the next
};
using PlanarRowKernel = void (*)(const PlanarRow&);

// Floats of the source that are fetched while products go on, line by line.
struct PlanarFetch {
  const float *next, *end;
};

// What a planar row of the source adds to some rows of outputs.
struct PlanarProduct {
  const float* planes;  // [channels][pitch], from what the first output reads by the first tap
  int64_t pitch, channels;
  int64_t taps, tapStep;  // voxels from tap to tap
  const float* weights;   // [channels][taps][weightStep], of which one for every row is read
  int64_t weightStep;
  float* sums[kMaxPlanarRows];  // of each row, [vectors][lanes]
  int64_t vectors;
  PlanarFetch* fetch;
};
using PlanarProductKernel = void (*)(const PlanarProduct&);

// Filters or sums of the same length: every float of some of them yields one of each of some others.
struct PlanarTransform {
  const float* from[kPlanarTile];
  float* to;
  int64_t toStep;  // from one of the others to the next
  int64_t floats;  // of each, a multiple of the lanes
};
using PlanarTransformKernel = void (*)(const PlanarTransform&);

struct PlanarKernels {
  int lanes;
  PlanarTransformKernel transformFilter, transformOutput;  // 6 points of 3 taps, 4 outputs of 6 sums
  PlanarRowKernel turn, turnTile;                          // a row, and the points of six
  PlanarProductKernel add[kMaxPlanarRows];                 // [rows - 1]
};

}  // namespace cpu
}  // namespace voxgrad
