// The product of a block of threads whose tiles follow each other through shared memory, for convolutions as
// matrix products.
#pragma once

#include "conv_tile.h"

namespace voxgrad::cuda {

// A block computes ROWS x COLUMNS, each of its warps WARP_ROWS x WARP_COLUMNS; STAGES tiles are under way.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS, int STAGES>
struct GemmTile {
  static constexpr int rows = ROWS, columns = COLUMNS, warpRows = WARP_ROWS, warpColumns = WARP_COLUMNS,
                       stages = STAGES;
  static constexpr int warpsAcross = COLUMNS / WARP_COLUMNS;
  static constexpr int threads = ROWS / WARP_ROWS * warpsAcross * warpSize;
  // From one row of a tile to the next: eight rows lie in different banks.
  static constexpr int pitchBytes = 128 + 16;
  static constexpr int stageBytes = (ROWS + COLUMNS) * pitchBytes;
  // Blocks that share a multiprocessor: what registers allow.
  static constexpr int together = threads > 128 ? 2 : threads > 64 ? 3 : 4;
};

// How the threads of a block fill a tile, a chunk or, loosely, a number at a time: each one column of it.
template <class Tile, bool LOOSE, Precision P>
struct TileFill {
  using T = Element<P>;
  static constexpr int vector = LOOSE ? 1 : chunkOf<T>, bytes = vector * static_cast<int>(sizeof(T));
  static constexpr int pitch = Tile::pitchBytes / static_cast<int>(sizeof(T));
  static constexpr int across = tileDepth<P> / vector, atOnce = Tile::threads / across;
  static_assert(Tile::rows % atOnce == 0 && Tile::columns % atOnce == 0, "every thread fills as many rows");
};

// The part of a block's product that the calling warp computes; that of the block begins at row and column 0.
template <class Tile, Precision P>
struct BlockProduct {
  using T = Element<P>;
  static constexpr int stage = Tile::stageBytes / static_cast<int>(sizeof(T));
  static constexpr int pitch = Tile::pitchBytes / static_cast<int>(sizeof(T));

  int row, column;
  WarpProduct<Tile::warpRows, Tile::warpColumns, P> ofWarp;

  __device__ BlockProduct() {
    const int warp = threadIdx.x / warpSize;
    row = warp / Tile::warpsAcross * Tile::warpRows;
    column = warp % Tile::warpsAcross * Tile::warpColumns;
  }

  // Adds the products of `steps` tiles of both operands: each loader.load(T*) brings the next one of the
  // rows, and behind it of the columns, into one of Tile::stages places in shared memory.
  template <class Loader, class Count>
  __device__ __forceinline__ void add(T* tiles, Loader& loader, Count steps) {
    for (int step = 0; step < Tile::stages - 1; step++) {
      if (step < steps) loader.load(tiles + step * stage);
      commitCopies();
    }
    const int lane = threadIdx.x % warpSize;
    int computed = 0, loaded = Tile::stages - 1;
    for (Count step = 0; step < steps; step++) {
      waitCopies<Tile::stages - 2>();
      __syncthreads();
      if (step + Tile::stages - 1 < steps) loader.load(tiles + loaded * stage);
      commitCopies();
      const T* a = tiles + computed * stage + (row + lane % 16) * pitch + lane / 16 * chunkOf<T>;
      const T* b = tiles + computed * stage + (Tile::rows + column + lane / 16 * 8 + lane % 8) * pitch +
                   lane / 8 % 2 * chunkOf<T>;
      ofWarp.add([&](int i, int k, uint32_t(&into)[4]) { loadMatrices(into, a + i * pitch + k); },
                 [&](int i, int k, uint32_t(&into)[4]) { loadMatrices(into, b + i * pitch + k); });
      computed = computed + 1 == Tile::stages ? 0 : computed + 1;
      loaded = loaded + 1 == Tile::stages ? 0 : loaded + 1;
    }
  }

  // Calls store(row, column, float, float) for every two neighbours that the lane holds.
  template <class Store>
  __device__ __forceinline__ void forEachPair(Store store) const {
    ofWarp.forEachPair(
        [&](int i, int j, float first, float second) { store(row + i, column + j, first, second); });
  }
};

}  // namespace voxgrad::cuda
