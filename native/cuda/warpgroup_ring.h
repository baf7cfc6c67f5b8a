// Blocks of threads in which one warp has tiles copied to shared memory and warpgroups multiply what has
// come.
#pragma once

#include "hopper.h"

namespace voxgrad::cuda {

// Of one product of a warpgroup: rows, and bytes of the depth.
constexpr int productRows = 64, productBytes = 32;

// CONSUMERS warpgroups multiply; STAGES tiles of STAGE_BYTES are under way.
template <int CONSUMERS, int STAGE_BYTES, int STAGES>
struct RingTile {
  static constexpr int stageBytes = STAGE_BYTES, stages = STAGES;
  static constexpr int consumerWarps = CONSUMERS * warpgroupThreads / warpSize;
  static constexpr int threads = CONSUMERS * warpgroupThreads + warpSize;
  static constexpr size_t sharedBytes = swizzleAlignment + STAGES * (STAGE_BYTES + 2 * sizeof(uint64_t));
};

// The tiles in shared memory, through which producer and consumers go round alike.
template <class Tile>
struct Ring {
  unsigned char* const tiles;
  uint64_t* const full;   // a phase ends when a tile has come,
  uint64_t* const empty;  // and when every warp has multiplied it
  int stage = 0;
  uint32_t round = 0;

  __device__ Ring()
      : tiles(swizzledMemory()),
        full(reinterpret_cast<uint64_t*>(tiles + Tile::stages * Tile::stageBytes)),
        empty(full + Tile::stages) {}
  // What follows in shared memory.
  __device__ void* behind() const { return empty + Tile::stages; }
  // By one thread, before all of the block meet.
  __device__ void make() {
    for (int i = 0; i < Tile::stages; i++) {
      makeBarrier(full + i, 1);
      makeBarrier(empty + i, Tile::consumerWarps);
    }
    publish();
  }

  // Has a tile of that many bytes copied by copy(tile, barrier).
  template <class Copy>
  __device__ __forceinline__ void produce(int bytes, Copy copy) {
    waitForPhase(empty + stage, round ^ 1);
    arriveExpecting(full + stage, bytes);
    copy(tiles + stage * Tile::stageBytes, full + stage);
    next();
  }

  // Adds to `sums` the products of all tiles, which multiply(tile) begins: those of one are under way while
  // the next one is waited for.
  template <int DOWN, int N, class Multiply>
  __device__ __forceinline__ void consume(int steps, float (&sums)[DOWN][N], Multiply multiply) {
    uint64_t* before = nullptr;
    for (int step = 0; step < steps; step++) {
      waitForPhase(full + stage, round);
      UNROLL for (int i = 0; i < DOWN; i++) pin(sums[i]);
      fenceProducts();
      multiply(tiles + stage * Tile::stageBytes);
      commitProducts();
      waitForProducts<1>();
      if (before != nullptr && threadIdx.x % warpSize == 0) arrive(before);
      before = empty + stage;
      next();
    }
    waitForProducts<0>();
    UNROLL for (int i = 0; i < DOWN; i++) pin(sums[i]);
  }

 private:
  __device__ __forceinline__ void next() {
    if (++stage < Tile::stages) return;
    stage = 0;
    round ^= 1;
  }
};

}  // namespace voxgrad::cuda
