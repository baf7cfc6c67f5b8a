// Blocks of output voxels with what they read of the source, their halo included, in shared memory.
#pragma once

#include "conv_gather.h"

namespace voxgrad::cuda {

constexpr int voxelsOfBlock = 128, voxelsOfLine = 16;
// Of what a block computes: lines of voxels, four of them in one slice where there are several slices.
struct BlockShape {
  int lines = voxelsOfBlock / voxelsOfLine, line = voxelsOfLine;
};
// What lets two blocks share a multiprocessor, and what one may have on compute capability 8.9.
constexpr size_t mostSharedBytes = 99 << 10;

// How the output is cut into blocks and what one of them reads, by axis.
struct HaloPlan {
  int block[3], blocks[3];
  int halo[3];
  int origin[3];              // of the halo, for the output voxel 0
  int firstTap[3], shift[3];  // tap j reads halo voxel firstTap + j * shift of the block's voxel 0
  int pitch;                  // elements from one voxel to the next: eight voxels lie in different banks

  __host__ __device__ int voxels() const { return halo[0] * halo[1] * halo[2]; }
};

inline HaloPlan haloPlanOf(const Gather& gather, Precision precision, const BlockShape& shape = {}) {
  const int lines = gather.axis[0].taps == 1 ? shape.lines : 4;
  HaloPlan plan{{shape.lines / lines, lines, shape.line}, {}, {}, {}, {}, {}, 0};
  for (int i = 0; i < 3; i++) {
    const Lattice lattice = gather.axis[i].lattice(gather.transposed, 0);
    const int reach = lattice.shift * (lattice.taps - 1);
    plan.blocks[i] = static_cast<int>(divideUp(lattice.count, plan.block[i]));
    plan.halo[i] = plan.block[i] + (reach < 0 ? -reach : reach);
    plan.firstTap[i] = reach < 0 ? -reach : 0;
    plan.shift[i] = lattice.shift;
    plan.origin[i] = lattice.sourceFirst - plan.firstTap[i];
  }
  const int chunk = chunkOfPrecision(precision);
  plan.pitch = gather.depth / chunk % 2 != 0 ? gather.depth : gather.depth + chunk;
  return plan;
}

// For `count` chunks along the depth, channels of one tap after the other, where each is in the halo of a
// block's voxel 0; taps are those along the first `axes` axes. Behind the depth, where weights are zero, that
// is what the first tap reads.
template <int THREADS>
__device__ void tabulateTaps(const Gather& gather, const HaloPlan& plan, int axes, int chunk, int depth,
                             int count, int* offsets) {
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const int at = i * chunk < depth ? i * chunk : 0;
    int tap = at / gather.depth;
    int offset = 0, stride = plan.pitch;
    for (int k = 2; k >= 0; k--) {
      if (k < axes) {
        offset += (plan.firstTap[k] + tap % gather.axis[k].taps * plan.shift[k]) * stride;
        tap /= gather.axis[k].taps;
      }
      stride *= plan.halo[k];
    }
    offsets[i] = offset + at % gather.depth;
  }
}

// Calls f(place in the halo, channel, whether the voxel is the source's, voxel) for every chunk of a block's
// halo that the thread is to fill.
template <int THREADS, int CHUNK, class F>
__device__ __forceinline__ void forEachChunkOfHalo(const Gather& gather, const HaloPlan& plan, int64_t batch,
                                                   const int (&first)[3], F f) {
  const int radix[3] = {plan.halo[1], plan.halo[2], gather.depth / CHUNK};
  const auto split = [&radix](int number, int(&digit)[4]) {
    for (int k = 3; k > 0; k--) {
      digit[k] = number % radix[k - 1];
      number /= radix[k - 1];
    }
    digit[0] = number;
  };
  int at[4], step[4];
  split(threadIdx.x, at);
  split(THREADS, step);
  while (at[0] < plan.halo[0]) {
    bool valid = true;
    int64_t voxel = batch;
    UNROLL for (int k = 0; k < 3; k++) {
      const int position = first[k] + plan.origin[k] + at[k];
      valid = valid && static_cast<unsigned>(position) < static_cast<unsigned>(gather.axis[k].source);
      voxel = voxel * gather.axis[k].source + position;
    }
    const int channel = at[3] * CHUNK;
    f(((at[0] * plan.halo[1] + at[1]) * plan.halo[2] + at[2]) * plan.pitch + channel, channel, valid, voxel);
    int carry = 0;
    UNROLL for (int k = 3; k > 0; k--) {
      at[k] += step[k] + carry;
      carry = at[k] >= radix[k - 1];
      if (carry) at[k] -= radix[k - 1];
    }
    at[0] += step[0] + carry;
  }
}

// Brings the source of a block to shared memory, zeroes where it is outside.
template <int THREADS, class T>
__device__ __forceinline__ void loadHalo(const Gather& gather, const HaloPlan& plan, const T* source,
                                         int group, int64_t batch, const int (&first)[3], T* halo) {
  const int64_t channels = int64_t{gather.groups} * gather.depth;
  const T* const own = source + int64_t{group} * gather.depth;
  forEachChunkOfHalo<THREADS, chunkOf<T>>(
      gather, plan, batch, first, [&](int place, int channel, bool valid, int64_t voxel) {
        copyAsync<16>(halo + place, valid ? own + voxel * channels + channel : source, valid);
      });
}

// Normalises what the thread itself has brought, but not the zeroes: they are those of a normalised map.
template <int THREADS, class T>
__device__ __forceinline__ void normalizeHalo(const Gather& gather, const HaloPlan& plan,
                                              const int (&first)[3], const Affine* maps, T* halo) {
  forEachChunkOfHalo<THREADS, chunkOf<T>>(gather, plan, 0, first,
                                          [&](int place, int channel, bool valid, int64_t) {
                                            if (valid) normalizeChunk(halo + place, maps + channel);
                                          });
}

// Brings the output gradient of a block of voxels to shared memory, so many filters of it as Tile has rows;
// zeroes behind the ends of the axes and of the filters.
template <class Tile, class T>
__device__ __forceinline__ void loadOutputGradient(const Gather& gather, const int (&extents)[3], const T* dy,
                                                   int group, int firstRow, int64_t batch,
                                                   const int (&first)[3], T* to) {
  constexpr int chunk = chunkOf<T>, chunks = Tile::rows / chunk;
  for (int i = threadIdx.x; i < voxelsOfBlock * chunks; i += Tile::threads) {
    const int at = i / chunks, filter = firstRow + i % chunks * chunk, line = at / voxelsOfLine;
    const int position[3] = {first[0] + line / extents[1], first[1] + line % extents[1],
                             first[2] + at % voxelsOfLine};
    bool valid = filter < gather.columns;
    int64_t voxel = batch;
    for (int k = 0; k < 3; k++) {
      valid = valid && position[k] < gather.axis[k].output;
      voxel = voxel * gather.axis[k].output + position[k];
    }
    const T* from = dy + (voxel * gather.groups + group) * gather.columns + filter;
    copyAsync<16>(to + at * Tile::pitch + i % chunks * chunk, valid ? from : dy, valid);
  }
}

// Whether blocks with a halo read far less than one tap at a time would, and are not mostly empty.
inline bool worthHalo(const Gather& gather, Precision precision, const BlockShape& shape = {}) {
  int64_t voxels = gather.batch, reach = 1;
  for (const GatherAxis& axis : gather.axis) {
    if (axis.stride != 1) return false;
    reach *= voxelsOfLine + int64_t{axis.taps - 1} * axis.dilation;
    if (reach > 1 << 20) return false;
    voxels *= axis.output;
  }
  const HaloPlan plan = haloPlanOf(gather, precision, shape);
  const int64_t block = int64_t{shape.lines} * shape.line;
  if (gather.taps() * block < 3 * int64_t{plan.voxels()}) return false;
  const int64_t covered = gather.batch * plan.blocks[0] * plan.blocks[1] * plan.blocks[2] * block;
  return voxels * 5 >= covered * 3;
}

}  // namespace voxgrad::cuda
