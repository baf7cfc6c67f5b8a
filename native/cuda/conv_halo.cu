#include "conv_halo.h"
#include "conv_halo_plan.h"
#include "conv_sums.h"

namespace voxgrad::cuda {
namespace {

// A block computes `rows` voxels, 16 of a line, times COLUMNS; each of its warps 32 x WARP_COLUMNS.
template <int COLUMNS, int WARP_COLUMNS>
struct HaloTile {
  static constexpr int rows = voxelsOfBlock, line = voxelsOfLine, columns = COLUMNS, warpRows = 32,
                       warpColumns = WARP_COLUMNS;
  static constexpr int warpsAcross = COLUMNS / WARP_COLUMNS;
  static constexpr int threads = rows / warpRows * warpsAcross * warpSize;
  // Tiles of the weights under way, and the bytes from one of their columns to the next.
  static constexpr int stages = 3, pitchBytes = 128 + 16;
  static constexpr int stageBytes = COLUMNS * pitchBytes;
};

// Chunks along the depth of a tile.
constexpr int chunksOfTile = 8;

// What a block knows of itself, in shared memory, which leaves the registers to the product.
struct BlockState {
  int64_t voxels, batch;  // the number of the block of voxels, and the sample
  int first[3];           // voxel
  int group, firstColumn;

  __device__ BlockState(const Gather& gather, const HaloPlan& plan, int columns, int columnBlocks)
      : voxels(blockIdx.x / columnBlocks / gather.groups),
        group(static_cast<int>(blockIdx.x / columnBlocks % gather.groups)),
        firstColumn(static_cast<int>(blockIdx.x % columnBlocks) * columns) {
    const Digits block = Digits::of(voxels, plan.blocks);
    batch = block.lead;
    for (int k = 0; k < 3; k++) first[k] = block.digit[k] * plan.block[k];
  }
};

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::threads > 128 ? 2 : 3)
    convHaloKernel(GatherCall call, HaloPlan plan, int columnBlocks) {
  const Gather& gather = call.gather;
  const int depth = static_cast<int>(gather.taps()) * gather.depth;
  const int steps = (depth + tileDepth<P> - 1) / tileDepth<P>;
  using T = Element<P>;
  constexpr int chunk = chunkOf<T>;
  constexpr int pitch = Tile::pitchBytes / static_cast<int>(sizeof(T)), stage = Tile::columns * pitch;
  T* tiles = sharedMemory<T>();
  T* halo = tiles + Tile::stages * stage;
  int* offsets = reinterpret_cast<int*>(halo + plan.voxels() * plan.pitch);

  auto& state = *reinterpret_cast<BlockState*>(offsets + steps * chunksOfTile);
  const BlockState block(gather, plan, Tile::columns, columnBlocks);
  if (threadIdx.x == 0) state = block;

  loadHalo<Tile::threads>(gather, plan, static_cast<const T*>(call.source), block.group, block.batch,
                          block.first, halo);
  tabulateTaps<Tile::threads>(gather, plan, 3, chunk, depth, steps * chunksOfTile, offsets);

  // Each thread fills a part of every tile of the weights: some columns at one place of the depth.
  constexpr int across = chunksOfTile, atOnce = Tile::threads / across;
  int at = threadIdx.x % across * chunk;
  const auto load = [&](T* tile) {
    for (int column = threadIdx.x / across; column < Tile::columns; column += atOnce) {
      const bool valid = at < depth && block.firstColumn + column < gather.columns;
      const T* from = static_cast<const T*>(call.weights) +
                      (int64_t{block.group} * gather.columns + block.firstColumn + column) * depth + at;
      copyAsync<16>(tile + column * pitch + threadIdx.x % across * chunk, valid ? from : call.weights, valid);
    }
    at += tileDepth<P>;
  };
  for (int step = 0; step < Tile::stages - 1; step++) {
    if (step < steps) load(tiles + step * stage);
    commitCopies();
  }

  if (call.norm) {
    Affine* const maps = reinterpret_cast<Affine*>(&state + 1);
    call.norm.spread(int64_t{block.group} * gather.depth, gather.depth, maps);
    waitCopies<Tile::stages - 2>();
    __syncthreads();
    normalizeHalo<Tile::threads>(gather, plan, block.first, maps, halo);
  }

  const int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  const int warpRow = warp / Tile::warpsAcross * Tile::warpRows;
  const int warpColumn = warp % Tile::warpsAcross * Tile::warpColumns;
  WarpProduct<Tile::warpRows, Tile::warpColumns, P> product;
  const T* rows[Tile::warpRows / 16];
  UNROLL for (int i = 0; i < Tile::warpRows / 16; i++) {
    const int line = warpRow / Tile::line + i;
    rows[i] = halo + ((line / plan.block[1] * plan.halo[1] + line % plan.block[1]) * plan.halo[2] +
                      lane % Tile::line) *
                         plan.pitch;
  }
  int computed = 0, loaded = Tile::stages - 1;
  for (int step = 0; step < steps; step++) {
    waitCopies<Tile::stages - 2>();
    __syncthreads();
    if (step + Tile::stages - 1 < steps) load(tiles + loaded * stage);
    commitCopies();
    const T* weights =
        tiles + computed * stage + (warpColumn + lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * chunk;
    const int* offset = offsets + step * across + lane / 16;
    product.add(
        [&](int row, int k, uint32_t(&into)[4]) { loadMatrices(into, rows[row / 16] + offset[k / chunk]); },
        [&](int column, int k, uint32_t(&into)[4]) { loadMatrices(into, weights + column * pitch + k); });
    computed = computed + 1 == Tile::stages ? 0 : computed + 1;
    loaded = loaded + 1 == Tile::stages ? 0 : loaded + 1;
  }

  product.forEachPair([&](int row, int column, float left, float right) {
    const int line = (warpRow + row) / Tile::line;
    const int position[3] = {state.first[0] + line / plan.block[1], state.first[1] + line % plan.block[1],
                             state.first[2] + row % Tile::line};
    int64_t voxel = state.batch;
    for (int k = 0; k < 3; k++) {
      if (position[k] >= gather.axis[k].output) return;
      voxel = voxel * gather.axis[k].output + position[k];
    }
    call.store<P>(state.group, voxel, state.firstColumn + warpColumn + column, left, right);
  });
  if (call.sums == nullptr) return;
  sumBlock<Tile>(call, product, tiles, state.group, state.firstColumn, state.voxels, [&](int row) {
    const int line = row / Tile::line;
    return state.first[0] + line / plan.block[1] < gather.axis[0].output &&
           state.first[1] + line % plan.block[1] < gather.axis[1].output &&
           state.first[2] + row % Tile::line < gather.axis[2].output;
  });
}

struct Variant {
  int columns, tileBytes;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const GatherCall& call)> run;

  int64_t columnBlocks(const Gather& gather) const { return divideUp(gather.columns, columns); }
  // Saturates where it would overflow.
  int64_t blocks(const Gather& gather, const HaloPlan& plan) const {
    int64_t count = gather.batch;
    for (const int64_t more : {int64_t{plan.blocks[0]}, int64_t{plan.blocks[1]}, int64_t{plan.blocks[2]},
                               int64_t{gather.groups}, columnBlocks(gather)})
      if (__builtin_mul_overflow(count, more, &count)) return INT64_MAX;
    return count;
  }
  size_t sharedBytes(const Gather& gather, const HaloPlan& plan, Precision precision) const {
    const int64_t chunk = chunkOfPrecision(precision), element = 16 / chunk;
    const int64_t offsets = divideUp(gather.taps() * gather.depth, chunksOfTile * chunk) * chunksOfTile;
    return static_cast<size_t>(tileBytes + plan.voxels() * plan.pitch * element) + offsets * sizeof(int) +
           sizeof(BlockState) + gather.depth * sizeof(Affine);
  }
};

template <class Tile, Precision P>
void runVariant(const char* name, const Variant& variant, const GatherCall& call) {
  const HaloPlan plan = haloPlanOf(call.gather, P);
  launch(name, convHaloKernel<Tile, P>,
         Grid{static_cast<unsigned>(variant.blocks(call.gather, plan)), Tile::threads,
              variant.sharedBytes(call.gather, plan, P)},
         call, plan, static_cast<int>(variant.columnBlocks(call.gather)));
}

template <class Tile>
constexpr Variant variantOf(const Names& names) {
  return {Tile::columns,
          Tile::stages * Tile::stageBytes,
          names,
          {{runVariant<Tile, Precision::f32>, runVariant<Tile, Precision::tf32>,
            runVariant<Tile, Precision::bf16>}}};
}

const Variant narrow =
    variantOf<HaloTile<16, 16>>({{"halo 128x16, tf32x3", "halo 128x16, tf32", "halo 128x16, bf16"}});
const Variant middle =
    variantOf<HaloTile<32, 32>>({{"halo 128x32, tf32x3", "halo 128x32, tf32", "halo 128x32, bf16"}});
const Variant wide =
    variantOf<HaloTile<64, 32>>({{"halo 128x64, tf32x3", "halo 128x64, tf32", "halo 128x64, bf16"}});

const Variant& choose(const Gather& gather) {
  return gather.columns <= 16 ? narrow : gather.columns <= 32 ? middle : wide;
}

}  // namespace

bool suitsHalo(const Gather& gather, Precision precision) {
  const int chunk = chunkOfPrecision(precision);
  if (gather.depth % chunk != 0 || gather.depth > 16 * chunk || !worthHalo(gather, precision)) return false;
  const HaloPlan plan = haloPlanOf(gather, precision);
  const Variant& variant = choose(gather);
  const int64_t blocks = variant.blocks(gather, plan);
  return blocks < int64_t{1} << 31 && variant.sharedBytes(gather, plan, precision) <= mostSharedBytes;
}

int64_t haloChunks(const Gather& gather, Precision precision) {
  const HaloPlan plan = haloPlanOf(gather, precision);
  return gather.batch * plan.blocks[0] * plan.blocks[1] * plan.blocks[2];
}

const char* haloName(const Gather& gather, Precision precision) { return choose(gather).names[precision]; }

void runHalo(const GatherCall& call) {
  const Variant& variant = choose(call.gather);
  variant.run[call.precision](variant.names[call.precision], variant, call);
}

}  // namespace voxgrad::cuda
