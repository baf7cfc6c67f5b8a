// Blocks of tiles in which Winograd convolution slice by slice is computed: some neighbouring tiles of a
// slice, through a run of slices.
#pragma once

#include "conv3d_geometry.h"

namespace voxgrad::cpu {

// Slabs of a weight gradient that has so many tiles: each has sums of its own, which takes many tiles to pay,
// or fewer where threads would have nothing to do.
inline int64_t winogradSlabs(int64_t tiles) {
  constexpr int64_t kMost = 8, kTiles = 128, kFew = 4, kLeastTiles = 32;
  const int64_t few = tiles >= kFew * kLeastTiles ? kFew : tiles >= 2 * kLeastTiles ? 2 : 1;
  return std::clamp(tiles / kTiles, few, kMost);
}

struct WinogradBlock {
  int64_t sample, firstSlice, slices;
  int64_t firstTile, tiles;  // in a slice
};

// Cuts `samples` x `slices` x `inSlice` tiles into blocks as equal as possible, of at most `mostTiles` tiles
// of a slice, and of as many slices as, with `more` of them, have `roomTiles` tiles, but three at least.
struct WinogradBlocks {
  int64_t samples, slices, inSlice;
  int64_t tileRuns, blockTiles;
  int64_t sliceRuns, blockSlices;

  WinogradBlocks(int64_t samples, int64_t slices, int64_t inSlice, int64_t mostTiles, int64_t roomTiles,
                 int64_t more)
      : samples(samples), slices(slices), inSlice(inSlice) {
    tileRuns = divideUp(inSlice, mostTiles);
    blockTiles = divideUp(inSlice, tileRuns);
    const int64_t fitting = std::max<int64_t>(3, roomTiles / blockTiles - more);
    blockSlices = divideUp(slices, divideUp(slices, fitting));
    sliceRuns = divideUp(slices, blockSlices);
  }

  int64_t count() const { return samples * sliceRuns * tileRuns; }

  WinogradBlock at(int64_t index) const {
    const int64_t run = index / tileRuns % sliceRuns, column = index % tileRuns;
    const int64_t firstSlice = run * blockSlices, firstTile = inSlice * column / tileRuns;
    return {index / tileRuns / sliceRuns, firstSlice, std::min(blockSlices, slices - firstSlice), firstTile,
            inSlice * (column + 1) / tileRuns - firstTile};
  }
};

}  // namespace voxgrad::cpu
