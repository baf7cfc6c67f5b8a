// The table of micro-kernels behind the weight gradient, compiled once per instruction set. Plain data only.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// Products of source windows with output-gradient channels, summed over rows of voxels: for each channel,
// `sumStride` floats apart, [vectors][lanes].
struct WeightGradientTile {
  const float* const* windows;    // [rows][pieces]: the window pieces of a row's first voxel
  const float* const* gradients;  // [rows]: the first of the channels, at the row's first voxel
  const int64_t* voxels;          // [rows]
  int64_t rows;
  int64_t windowStride;    // floats between voxels
  int64_t gradientStride;  // floats between voxels
  float* sums;
  int64_t sumStride;  // floats between channels
  bool add;           // to what the sums hold; else they are overwritten
};
using WeightGradientKernel = void (*)(const WeightGradientTile&);

constexpr int kMaxGradientChannels = 8;
constexpr int kMaxWindowVectors = 3;

struct WeightGradientKernels {
  int lanes;

  // [pieces per vector - 1][channels - 1][vectors - 1]: a vector is one piece of `lanes` floats, or two of
  // half as many. Null beyond maxChannels; two pieces are null where halves do not pay.
  WeightGradientKernel sum[2][kMaxGradientChannels][kMaxWindowVectors];
  int maxChannels;

  // Copies `count` floats, no more than kMaxWindowVectors vectors, of each of `voxels` voxels, `stride`
  // floats apart, to places `toStride` floats apart, each with zeros up to a whole number of vectors.
  void (*packWindows)(float* to, int64_t toStride, const float* from, int64_t stride, int64_t voxels,
                      int64_t count);

  // Copies `count` floats of each of `voxels` voxels, `stride` floats apart, in blocks of maxChannels floats:
  // [blocks][voxels][maxChannels], each block `blockStride` floats behind the one before. Floats behind the
  // last one stay what they are.
  void (*packGradients)(float* to, int64_t blockStride, const float* from, int64_t stride, int64_t voxels,
                        int64_t count);
};

}  // namespace cpu
}  // namespace voxgrad
