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
        for (int v = 0; v < Vectors; ++v) sums[k][v] += dy * x[v];
      }
      offset += tile.windowStride;
      gradient += tile.gradientStride;
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < Channels; ++k) {
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v) {
      float* const to = tile.sums + k * tile.sumStride + v * kLanes;
      store(to, tile.add ? load(to) + sums[k][v] : sums[k][v]);
    }
  }
}

void packWindows(float* to, const float* from, int64_t stride, int64_t voxels, int64_t count) {
  for (int64_t voxel = 0; voxel < voxels; ++voxel, from += stride) {
    for (int64_t i = 0; i < count; i += kLanes, to += kLanes) store(to, loadFirst(from + i, count - i));
  }
}

void packGradients(float* to, int64_t blockStride, const float* from, int64_t stride, int64_t voxels,
                   int64_t count) {
  for (int64_t voxel = 0; voxel < voxels; ++voxel, from += stride, to += kChannels) {
    int64_t k = 0;
    float* block = to;
    for (; k + kChannels <= count; k += kChannels, block += blockStride)
      memcpy(block, from + k, kChannels * sizeof(float));
    for (int64_t i = 0; k + i < count; ++i) block[i] = from[k + i];
  }
}

// The table is filled by recursion over the template parameters.
template <int Pieces, int Channels>
constexpr void fill(WeightGradientKernels& table) {
  if constexpr (Channels > 0) {
    table.sum[Pieces - 1][Channels - 1][0] = sumProducts<Pieces, Channels, 1>;
    table.sum[Pieces - 1][Channels - 1][1] = sumProducts<Pieces, Channels, 2>;
    table.sum[Pieces - 1][Channels - 1][2] = sumProducts<Pieces, Channels, 3>;
    fill<Pieces, Channels - 1>(table);
  }
}

constexpr WeightGradientKernels makeTable() {
  WeightGradientKernels table = {};
  table.lanes = kLanes;
  table.maxChannels = kChannels;
  fill<1, kChannels>(table);
  if constexpr (kLanes > 4) fill<2, kChannels>(table);
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
