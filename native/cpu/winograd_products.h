// What the multiplying micro-kernels of Winograd convolution do, once source, filters and gradients are
// transformed: one matrix product per frequency. Structs of plain data only: sources of every instruction set
// include this file.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

constexpr int kWinogradVectors = 2;  // vectors of output channels in a block

// For each frequency f: products[f][row][channel] = or, with `add`, += the sum over taps r and channels c of
// tiles[f][row][c], r * tapStride floats further on, times filters[f][r][c][channel].
struct WinogradProduct {
  int64_t frequencies;
  const float* tiles;
  int64_t tileFrequencyStride, tileStride;
  int64_t taps = 1, tapStride = 0;
  const float* filters;  // [frequencies][taps][depth][vectors][lanes]
  int64_t filterFrequencyStride, depth, vectors;
  bool add;
  float* products;  // [frequencies][rows][vectors][lanes]
  int64_t productFrequencyStride, rows;
};

// For each frequency f: sums[f][k][c] = or, with `add`, += the sum over tiles of
// gradients[f][tile][k] * sources[f][tile][c], c over whole vectors. Channels lie in panels of
// kWinogradVectors: those of a tile side by side, and panels a stride apart.
struct WinogradSum {
  int64_t frequencies;
  const float *sources, *gradients;
  int64_t sourceFrequencyStride, sourceStride, sourcePanelStride;
  int64_t gradientFrequencyStride, gradientStride, gradientPanelStride;
  int64_t tiles, outputs, vectors;
  bool add;
  float* sums;  // [frequencies][outputs][vectors][lanes], strides apart
  int64_t sumFrequencyStride, sumStride;
};

// The kernels of each instruction set.
#ifdef VOXGRAD_ISA_NAME
namespace VOXGRAD_ISA_NAME {
void product(const WinogradProduct& p);
void sum(const WinogradSum& s);
}  // namespace VOXGRAD_ISA_NAME
#endif

}  // namespace cpu
}  // namespace voxgrad
