// Implicit matrix products by warpgroups, for devices of compute capability 9: rows are the voxels of a box
// of the output, and the same box of the source, shifted by a tap, is what the copy engine brings.
#pragma once

#include <iterator>
#include <vector>

#include "conv_box.h"
#include "tensor_map.h"
#include "warpgroup_ring.h"

namespace voxgrad::cuda {

// Numbers of the depth in a tile.
template <Precision P>
constexpr int numbersOfTile = swizzleBytes / static_cast<int>(sizeof(Element<P>));

// Which tiles of the depth a block multiplies: of the taps that its box reaches, `chunks` for each, a part.
struct TapRange {
  int chunks, first, steps;

  __device__ TapRange(const Box& box, int chunks, int part = 0, int parts = 1) : chunks(chunks) {
    const int all = box.taps[0] * box.taps[1] * box.taps[2] * chunks, most = (all + parts - 1) / parts;
    first = part * most;
    steps = all - first < most ? all - first : most;
  }
};

// What a block knows of itself, in shared memory, which leaves the registers to the product.
struct BoxState {
  Box box;
  TapRange range;
  int64_t number;  // of the box
  int column;      // the first one
  int part;        // of the depth, or which of several results it is

  __device__ BoxState(const Box& box, const TapRange& range, int64_t number, int column, int part)
      : box(box), range(range), number(number), column(column), part(part) {}
};

// Each of two consumers computes DOWN times 64 rows by COLUMNS. STAGES tiles are under way, and TOGETHER
// blocks share a multiprocessor.
template <int DOWN, int COLUMNS, int STAGES, int TOGETHER>
struct WarpgroupTile : RingTile<2, (2 * DOWN * productRows + COLUMNS) * swizzleBytes, STAGES> {
  using Own = RingTile<2, (2 * DOWN * productRows + COLUMNS) * swizzleBytes, STAGES>;
  static constexpr int down = DOWN, columns = COLUMNS, together = TOGETHER;
  static constexpr int rows = 2 * DOWN * productRows;
  static constexpr int rowBytes = rows * swizzleBytes, columnBytes = COLUMNS * swizzleBytes;
  static constexpr size_t sharedBytes = Own::sharedBytes + sizeof(BoxState);
};

// Has tiles copied, of one tap after the other: of `voxels` of the source, whose channels begin at `channel`,
// and of weights [columns, taps, depth] from `column` on.
template <class Tile, Precision P>
__device__ void produceTaps(Ring<Tile>& ring, const TensorMap& source, int channel, const TensorMap& weights,
                            int column, const Gather& gather, const Box& box, const TapRange& range,
                            int voxels) {
  const int radix[3] = {box.taps[1], box.taps[2], range.chunks};
  Digits at = Digits::of(range.first, radix);
  const Digits one{0, {0, 0, 1}};
  for (int step = 0; step < range.steps; step++) {
    const int tap[3] = {box.firstTap[0] + static_cast<int>(at.lead), box.firstTap[1] + at.digit[0],
                        box.firstTap[2] + at.digit[1]};
    const int depth = at.digit[2] * numbersOfTile<P>;
    int index = 0;
    for (int i = 0; i < 3; i++)
      index = index * gather.axis[i].taps + box.lattice[i].tapFirst + box.lattice[i].tapStep * tap[i];
    ring.produce(voxels * swizzleBytes + Tile::columnBytes, [&](unsigned char* tile, uint64_t* barrier) {
      copyBox(tile, source,
              {channel + depth, box.sourceOf(2, tap[2]), box.sourceOf(1, tap[1]), box.sourceOf(0, tap[0]),
               box.first[0]},
              barrier);
      copyBox(tile + Tile::rowBytes, weights, {depth, index, column}, barrier);
    });
    at.add(one, radix);
  }
}

// The sums of a consumer's thread: DOWN times 64 rows, of which this is the first one.
template <class Tile>
using WarpgroupSums = float[Tile::down][Tile::columns / 2];

template <class Tile>
__device__ __forceinline__ int firstRowOfWarpgroup() {
  return static_cast<int>(threadIdx.x) / warpgroupThreads * Tile::down * productRows;
}

// Adds the products of all tiles.
template <class Tile, Precision P>
__device__ __forceinline__ void multiplyTiles(Ring<Tile>& ring, int steps, WarpgroupSums<Tile>& sums) {
  const int row = firstRowOfWarpgroup<Tile>();
  ring.consume(steps, sums, [&](const unsigned char* tile) {
    UNROLL for (int k = 0; k < swizzleBytes; k += productBytes) {
      const uint64_t b = operandAt(tile + Tile::rowBytes, k);
      UNROLL for (int i = 0; i < Tile::down; i++) {
        const uint64_t a = operandAt(tile + (row + i * productRows) * swizzleBytes, k);
        if constexpr (P == Precision::bf16)
          multiplyBf16<Tile::columns>(sums[i], a, b);
        else
          multiplyTf32<Tile::columns>(sums[i], a, b);
      }
    }
  });
}

// A thread's sums as sumFragments of conv_sums.h takes them.
template <class Tile>
struct WarpgroupFragments {
  static constexpr int down = Tile::down, across = Tile::columns / 8;

  const WarpgroupSums<Tile>& sums;
  const int warp = static_cast<int>(threadIdx.x) / warpSize;

  __device__ __forceinline__ float at(int i, int j, int n) const { return sums[i][j * 4 + n]; }
  __device__ __forceinline__ int row(int i, int half) const {
    const int lane = static_cast<int>(threadIdx.x) % warpSize;
    return firstRowOfWarpgroup<Tile>() + i * productRows + warp % 4 * 16 + half * 8 + lane / 4;
  }
  __device__ __forceinline__ int column(int j) const { return j * 8; }
};

// Calls store(voxel, column, float, float) for every two neighbours that the thread holds; voxelOf(row) is -1
// where there is none.
template <class Tile, class VoxelOf, class Store>
__device__ __forceinline__ void storeSums(const WarpgroupSums<Tile>& sums, VoxelOf voxelOf, Store store) {
  const WarpgroupFragments<Tile> fragments{sums};
  const int pair = static_cast<int>(threadIdx.x) % 4 * 2;
  UNROLL for (int i = 0; i < Tile::down; i++) UNROLL for (int half = 0; half < 2; half++) {
    const int64_t voxel = voxelOf(fragments.row(i, half));
    if (voxel < 0) continue;
    UNROLL for (int j = 0; j < fragments.across; j++) store(
        voxel, fragments.column(j) + pair, fragments.at(i, j, half * 2), fragments.at(i, j, half * 2 + 1));
  }
}

// What the copy engine must know, the innermost axis first: of a source with so many channels of a voxel, and
// of the weights.
inline BoxedTensor boxedSource(const Gather& gather, int64_t channels, const BoxPlan& plan,
                               int elementBytes) {
  const GatherAxis(&axis)[3] = gather.axis;
  const auto step = [&](int i) { return gather.transposed ? 1 : axis[i].stride; };
  return {elementBytes,
          5,
          {channels, axis[2].source, axis[1].source, axis[0].source, gather.batch},
          {swizzleBytes / elementBytes, plan.box[3], plan.box[2], plan.box[1], plan.box[0]},
          {1, step(2), step(1), step(0), 1}};
}

inline BoxedTensor boxedWeights(const Gather& gather, int columns, int elementBytes) {
  return {elementBytes,
          3,
          {gather.depth, gather.taps(), gather.columns},
          {swizzleBytes / elementBytes, 1, columns}};
}

// A tile with what launches it, in the precisions that there are.
template <class Run>
struct WarpgroupVariant {
  int rows, columns;
  Names names;
  ByPrecision<Run> run;
};

template <class Tile, class Run>
constexpr WarpgroupVariant<Run> warpgroupVariant(const char* tf32, Run runTf32, const char* bf16,
                                                 Run runBf16) {
  return {Tile::rows, Tile::columns, {{nullptr, tf32, bf16}}, {{nullptr, runTf32, runBf16}}};
}

// Of a table of tiles, the larger first, the numbers of those that so many columns fill by more than half.
template <class Variants>
std::vector<int> tilesFor(const Variants& variants, int columns) {
  std::vector<int> tiles;
  for (size_t tile = 0; tile < std::size(variants); tile++)
    if (variants[tile].columns < 2 * columns) tiles.push_back(static_cast<int>(tile));
  return tiles;
}

// The largest with blocks for every multiprocessor, or the smallest.
template <class BlocksOf>
int largestTile(const std::vector<int>& tiles, BlocksOf blocksOf) {
  for (const int tile : tiles)
    if (blocksOf(tile) >= 132) return tile;
  return tiles.back();
}

}  // namespace voxgrad::cuda
