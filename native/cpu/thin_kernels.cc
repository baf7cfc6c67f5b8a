// Micro-kernels of pointwise convolutions to a few channels. Compiled once per instruction set; see simd.h.
#include "thin_kernels.h"

#include "simd_norm.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// The lanes of each of Count vectors, from `first` on, are summed into the lanes of one, in order.
template <int Count, typename Products>
VOXGRAD_INLINE vfloat sumLanes(const Products& products, int first) {
  if constexpr (Count == 1) {
    return products(first);
  } else {
    return sumPairs(sumLanes<Count / 2>(products, first), sumLanes<Count / 2>(products, first + Count / 2));
  }
}

// Consecutive floats of the output, whatever voxel and channel they belong to, make a vector.
template <int Channels, bool Normalized>
void thinRow(const ThinRow& row) {
  vfloat bias[Channels] = {};
  for (int i = 0; row.bias && i < Channels * kLanes; ++i)
    bias[i / kLanes][i % kLanes] = row.bias[i % Channels];
  const int64_t reduced = row.reduced;
  for (int64_t voxel = 0; voxel < row.voxels; voxel += kLanes) {
    // What lies behind the last voxel is summed from the last one and not stored.
    const int64_t last = row.voxels - 1 - voxel;
    const float* const source = row.source + voxel * reduced;
    vfloat sums[Channels];
    for (int j = 0; j < Channels; ++j) sums[j] = bias[j];
    for (int64_t c = 0; c < reduced; c += kLanes) {
      const int64_t count = reduced - c;
      vfloat weights[Channels];
#pragma GCC unroll 3
      for (int k = 0; k < Channels; ++k) weights[k] = loadFirst(row.weights + k * reduced + c, count);
      const NormVectors norm = Normalized ? loadNorm(*row.norm, c) : NormVectors{};
      const auto addAll = [&](auto loadVoxel) __attribute__((always_inline)) {
#pragma GCC unroll 3
        for (int j = 0; j < Channels; ++j) {
          const auto product = [&](int i) __attribute__((always_inline)) {
            const int at = j * kLanes + i;
            const vfloat source = loadVoxel(at / Channels);
            return (Normalized ? normRelu(source, norm) : source) * weights[at % Channels];
          };
          sums[j] += sumLanes<kLanes>(product, 0);
        }
      };
      if (last + 1 >= kLanes && count >= kLanes) {
        addAll([&](int i) __attribute__((always_inline)) { return load(source + i * reduced + c); });
      } else {
        addAll([&](int i) __attribute__((always_inline)) {
          return loadFirst(source + (i < last ? i : last) * reduced + c, count);
        });
      }
    }
    float* const output = row.output + voxel * Channels;
    for (int j = 0; j < Channels; ++j)
      storeFirst(output + j * kLanes, sums[j], (last + 1) * Channels - j * kLanes);
  }
}

template <bool Normalized>
void runAs(const ThinRow& row) {
  if (row.channels == 1) return thinRow<1, Normalized>(row);
  if (row.channels == 2) return thinRow<2, Normalized>(row);
  thinRow<3, Normalized>(row);
}

void run(const ThinRow& row) { row.norm ? runAs<true>(row) : runAs<false>(row); }

constexpr ThinKernels kTable = {kLanes, run};

}  // namespace

const ThinKernels& thinKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
