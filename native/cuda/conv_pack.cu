#include "conv_pack.h"
#include "cuda.h"

namespace voxgrad::cuda {
namespace {

constexpr int tile = 32, lines = 8;

struct Packing {
  int64_t taps;
  int filters, channels;  // of a group
  int filterTiles, channelTiles;
  const float* w;
};

// Turns one square of filters and channels of one tap, so that reads and writes both run along lines.
template <class T>
__global__ void __launch_bounds__(tile* lines) packTransposedKernel(Packing packing, T* packed) {
  float* square = sharedMemory<float>();
  const int filters = packing.filters, channels = packing.channels;
  int64_t index = blockIdx.x;
  const int channel0 = static_cast<int>(index % packing.channelTiles) * tile;
  index /= packing.channelTiles;
  const int filter0 = static_cast<int>(index % packing.filterTiles) * tile;
  index /= packing.filterTiles;
  const int64_t tap = index % packing.taps, group = index / packing.taps;
  const int along = threadIdx.x % tile, first = threadIdx.x / tile;
  for (int line = first; line < tile; line += lines) {
    const int filter = filter0 + line, channel = channel0 + along;
    if (filter < filters && channel < channels)
      square[line * (tile + 1) + along] =
          packing.w[((group * filters + filter) * packing.taps + tap) * channels + channel];
  }
  __syncthreads();
  for (int line = first; line < tile; line += lines) {
    const int filter = filter0 + along, channel = channel0 + line;
    if (filter < filters && channel < channels)
      packed[((group * channels + channel) * packing.taps + tap) * filters + filter] =
          square[along * (tile + 1) + line];
  }
}

Packing packingOf(const Conv3dProblem& p) {
  const int64_t filters = p.K / p.groups, channels = p.C / p.groups;
  return {p.taps(),
          static_cast<int>(filters),
          static_cast<int>(channels),
          static_cast<int>(divideUp(filters, tile)),
          static_cast<int>(divideUp(channels, tile)),
          nullptr};
}

template <class T>
void pack(const Conv3dProblem& problem, const float* w, T* packed) {
  Packing packing = packingOf(problem);
  packing.w = w;
  launch("packTransposedKernel", packTransposedKernel<T>,
         Grid{static_cast<unsigned>(packBlocks(problem)), tile * lines, tile * (tile + 1) * sizeof(float)},
         packing, packed);
}

}  // namespace

int64_t packBlocks(const Conv3dProblem& problem) {
  const Packing packing = packingOf(problem);
  return problem.groups * packing.taps * packing.filterTiles * packing.channelTiles;
}

void packTransposed(const Conv3dProblem& problem, const float* w, float* packed) { pack(problem, w, packed); }
void packTransposed(const Conv3dProblem& problem, const float* w, Bf16* packed) { pack(problem, w, packed); }

}  // namespace voxgrad::cuda
