// Micro-kernels of the weight gradient. Compiled once per instruction set; see simd.h.
#include "conv3d_weight_gradient_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Accumulators for three vectors stay in registers, beside the vectors and a broadcast.
constexpr int kChannels = kLanes == 16 ? 8 : 4;

template <int Pieces, int Channels, int Vectors>
void sumProducts(const WeightGradientTile& tile) {
  vfloat sums[Channels][Vectors] = {};
  // Added to at the end, when nothing else is left to wait for.
#pragma GCC unroll 8
  for (int k = 0; k < Channels; ++k) {
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v) __builtin_prefetch(tile.sums + k * tile.sumStride + v * kLanes, 1);
  }
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* window[Vectors * Pieces];
    for (int i = 0; i < Vectors * Pieces; ++i) window[i] = tile.windows[row * Vectors * Pieces + i];
    const float* gradient = tile.gradients[row];
    const int64_t voxels = tile.voxels[row];
    int64_t offset = 0;
    for (int64_t voxel = 0; voxel < voxels; ++voxel) {
      vfloat x[Vectors];
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; ++v) {
        x[v] = Pieces == 1
                   ? load(window[v] + offset)
                   : loadHalves(window[v * Pieces] + offset, window[v * Pieces + Pieces - 1] + offset);
      }
#pragma GCC unroll 8
      for (int k = 0; k < Channels; ++k) {
        const vfloat dy = broadcast(gradient + k);
#pragma GCC unroll 3
        for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[k][v], dy, x[v]);
      }
      offset += tile.windowStride;
      gradient += tile.gradientStride;
    }
  }
  const bool add = tile.add;
  const int64_t pitch = tile.sumStride;
  float* to = tile.sums;
#pragma GCC unroll 8
  for (int k = 0; k < Channels; ++k, to += pitch) {
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v)
      store(to + v * kLanes, add ? load(to + v * kLanes) + sums[k][v] : sums[k][v]);
  }
}

template <int Vectors>
void packVectors(float* to, int64_t toStride, const float* from, int64_t stride, int64_t voxels,
                 int64_t count) {
  const int64_t last = count - (Vectors - 1) * kLanes;
  for (int64_t voxel = 0; voxel < voxels; ++voxel, from += stride, to += toStride) {
#pragma GCC unroll 3
    for (int v = 0; v + 1 < Vectors; ++v) store(to + v * kLanes, load(from + v * kLanes));
    store(to + (Vectors - 1) * kLanes, loadFirst(from + (Vectors - 1) * kLanes, last));
  }
}

void packWindows(float* to, int64_t toStride, const float* from, int64_t stride, int64_t voxels,
                 int64_t count) {
  static_assert(kMaxWindowVectors == 3);
  constexpr auto one = packVectors<1>, two = packVectors<2>, three = packVectors<3>;
  (count <= kLanes ? one : count <= 2 * kLanes ? two : three)(to, toStride, from, stride, voxels, count);
}

// A line of every voxel after another, so that no line is read twice.
void packGradients(float* to, int64_t blockStride, const float* from, int64_t stride, int64_t voxels,
                   int64_t count) {
  constexpr int kLine = 16, kBlocks = kLine / kChannels;
  int64_t k = 0;
  for (; k + kLine <= count; k += kLine, to += kBlocks * blockStride) {
    const float* line = from + k;
    float* block = to;
    for (int64_t voxel = 0; voxel < voxels; ++voxel, line += stride, block += kChannels) {
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b)
        memcpy(block + b * blockStride, line + b * kChannels, kChannels * sizeof(float));
      __builtin_prefetch(line + kLine);
    }
  }
  for (; k < count; k += kChannels, to += blockStride) {
    const int64_t floats = count - k < kChannels ? count - k : kChannels;
    for (int64_t voxel = 0; voxel < voxels; ++voxel) {
      for (int64_t i = 0; i < floats; ++i) to[voxel * kChannels + i] = from[voxel * stride + k + i];
    }
  }
}

// The table is filled by recursion over the template parameters.
template <int Pieces, int Channels>
constexpr void fill(WeightGradientKernel (&kernels)[kMaxGradientChannels][kMaxWindowVectors]) {
  if constexpr (Channels > 0) {
    kernels[Channels - 1][0] = sumProducts<Pieces, Channels, 1>;
    kernels[Channels - 1][1] = sumProducts<Pieces, Channels, 2>;
    kernels[Channels - 1][2] = sumProducts<Pieces, Channels, 3>;
    fill<Pieces, Channels - 1>(kernels);
  }
}

constexpr WeightGradientKernels makeTable() {
  WeightGradientKernels table = {};
  table.lanes = kLanes;
  table.maxChannels = kChannels;
  fill<1, kChannels>(table.sum[0]);
  if constexpr (kLanes > 4) fill<2, kChannels>(table.sum[1]);
  table.packWindows = packWindows;
  table.packGradients = packGradients;
  return table;
}

constexpr WeightGradientKernels kTable = makeTable();

}  // namespace

const WeightGradientKernels& weightGradientKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
