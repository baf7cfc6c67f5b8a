// The table of micro-kernels behind Winograd convolution along W alone, compiled once per instruction set.
// Structs of plain data only: sources of every instruction set include this file.
//
// A tile of four outputs of a row reads seven floats of a row of the source, at most, whose transform meets
// that of a row of taps; sums over rows of taps are transformed back once. For three taps that is F(4, 3),
// six products for four outputs. Five to seven taps are cut in two, of four taps and of the rest, each a
// convolution of its own: with stride 1 the second reads the source a tile further on, with stride 2 both
// read every other float. F(4, 4) has seven products, at six numbers and at infinity; at infinity fewer taps
// give zero, so that the second part adds to six of the seven sums (Lavin and Gray, "Fast algorithms for
// convolutional neural networks", CVPR 2016; Winograd, "Arithmetic complexity of computations", 1980).
#pragma once

#include <stdint.h>

#include "channel_sums.h"

namespace voxgrad {
namespace cpu {

constexpr int kRowOutputs = 4;           // of a tile
constexpr int kRowTile = 8;              // floats from a transformed tile to the next
constexpr int kRowProducts[] = {6, 13};  // of a tile, by the parts of a row of taps, less one

// One row of a source, some floats of zero padding included.
struct WinogradRow {
  const float* source;  // [4 * tiles + 4]
  int64_t tiles;        // a multiple of lanes
  float* transformed;   // [tiles][kRowTile]
};

// Lines of a plane of y whose taps in the padding are the same, and the channels of some vectors
// or fewer.
struct WinogradRowProduct {
  const float* tiles;            // transformed: of the first line and of its first row of taps
  int64_t lineTiles;             // floats from a line to the next
  int64_t planes, rows;          // of taps; channels of the source count as rows
  int64_t planeTiles, rowTiles;  // floats between them
  int64_t secondTiles;   // floats from the tiles that the first part of a row of taps meets to the others
  const float* weights;  // [planes][rows][products][lanes]
  int64_t planeWeights, vectorWeights;  // floats between planes, and between vectors
  const float* bias;                    // [vectors][lanes]
  float* output;
  int64_t lines, voxels;            // voxels of a line
  int64_t outputLine, outputVoxel;  // floats between them
  int64_t channels;                 // to store
  ChannelSums* sums;                // to add the outputs to, if any
};

struct WinogradRowKernels {
  int lanes;
  int groupTiles;  // multiplied together; the tiles of a line are read up to a multiple
  int vectors;     // of channels, at most
  // By the parts of a row of taps, less one, and before that by the vectors, less one.
  void (*transform[2])(const WinogradRow&);
  void (*product[2][2])(const WinogradRowProduct&);
};

}  // namespace cpu
}  // namespace voxgrad
