// Tiles of 2x2x2 outputs of a 3x3x3 convolution of stride 1, numbered along W, H, D and samples.
#pragma once

#include "conv3d_geometry.h"
#include "winograd_kernels.h"

namespace voxgrad::cpu {

struct WinogradTiles {
  // Output o along an axis reads the source voxels o - pad to o - pad + 2. A negative pad skips voxels.
  int64_t sourceExtent[3], outputExtent[3], pad[3];
  int64_t sourceChannels;

  int64_t along(int axis) const { return divideUp(outputExtent[axis], 2); }
  int64_t count(int64_t samples) const { return samples * along(0) * along(1) * along(2); }
  int64_t sourceRow() const { return sourceExtent[2] * sourceChannels; }

  // Visits the runs of tiles [first, first + tiles) that lie in one row, with their place in that range, the
  // sample, the position of the first one, and their number.
  template <typename Visit>
  void forEachRow(int64_t first, int64_t tiles, Visit visit) const {
    for (int64_t done = 0; done < tiles;) {
      const int64_t tile = first + done, row = tile / along(2);
      const int64_t at[3] = {row / along(1) % along(0), row % along(1), tile % along(2)};
      const int64_t count = std::min(tiles - done, along(2) - at[2]);
      visit(done, row / along(1) / along(0), at, count);
      done += count;
    }
  }

  // One plane of the transformed source of tiles [first, first + tiles): [16][tiles][tileStride].
  void transformSource(const WinogradKernels& kernels, int64_t plane, int64_t first, int64_t tiles,
                       const float* source, const float* zeroRow, float* transformed, int64_t frequencyStride,
                       int64_t tileStride) const {
    // Source slices of a tile that make a plane: first + sign * second.
    constexpr struct {
      int first, second;
      float sign;
    } kSlices[kPlanes] = {{0, 2, -1.0f}, {1, 2, 1.0f}, {2, 1, -1.0f}, {1, 3, -1.0f}};
    forEachRow(first, tiles, [&](int64_t done, int64_t n, const int64_t(&at)[3], int64_t count) {
      const auto rowOf = [&](int slice, int height) {
        const int64_t d = 2 * at[0] + slice - pad[0], h = 2 * at[1] + height - pad[1];
        const bool inside = d >= 0 && d < sourceExtent[0] && h >= 0 && h < sourceExtent[1];
        return inside ? source + ((n * sourceExtent[0] + d) * sourceExtent[1] + h) * sourceRow() : zeroRow;
      };
      WinogradSource part;
      for (int height = 0; height < 4; ++height) {
        part.first[height] = rowOf(kSlices[plane].first, height);
        part.second[height] = rowOf(kSlices[plane].second, height);
      }
      part.sign = kSlices[plane].sign;
      part.channels = sourceChannels;
      part.width = sourceExtent[2];
      part.begin = 2 * at[2] - pad[2];
      part.tiles = count;
      part.transformed = transformed + done * tileStride;
      part.frequencyStride = frequencyStride;
      part.tileStride = tileStride;
      kernels.source(part);
    });
  }
};

}  // namespace voxgrad::cpu
