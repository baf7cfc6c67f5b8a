#include <algorithm>

#include "conv_gemm.h"
#include "conv_tile.h"

namespace voxgrad::cuda {
namespace {

// A block computes ROWS x COLUMNS, each of its warps WARP_ROWS x WARP_COLUMNS; STAGES tiles are under way.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS, int STAGES>
struct GemmTile {
  static constexpr int rows = ROWS, columns = COLUMNS, warpRows = WARP_ROWS, warpColumns = WARP_COLUMNS,
                       stages = STAGES;
  static constexpr int warpsAcross = COLUMNS / WARP_COLUMNS;
  static constexpr int threads = ROWS / WARP_ROWS * warpsAcross * warpSize;
  // Numbers from one row of a tile to the next: eight rows lie in different banks.
  static constexpr int pitch = tileDepth + 4;
  static constexpr int stageFloats = (ROWS + COLUMNS) * pitch;
  // Blocks that share a multiprocessor: what registers allow.
  static constexpr int together = threads > 128 ? 2 : threads > 64 ? 3 : 4;
};

// Where a row of a block's product begins to read and what it writes; a row behind the last reads nothing.
struct RowPlace {
  int64_t source;  // voxel of tap 0, which may lie outside
  int64_t output;  // voxel, or -1
  int position[3];
};

// What a block knows besides its tiles: in shared memory, which leaves the registers to the product.
template <class Tile>
struct BlockState {
  RowPlace places[Tile::rows];
  Lattice lattice[3];
  Digits advance;  // of a position along the depth, from one tile to the next
};

// The digits of a position along the depth, but for the first tap's.
struct DepthRadix {
  int radix[3];
  __device__ explicit DepthRadix(const Lattice (&lattice)[3], int depth)
      : radix{lattice[1].taps, lattice[2].taps, depth} {}
};

__device__ RowPlace placeOf(const Gather& gather, const Lattice (&lattice)[3], int64_t row) {
  const GatherAxis(&axis)[3] = gather.axis;
  const int counts[3] = {lattice[0].count, lattice[1].count, lattice[2].count};
  const Digits at = Digits::of(row, counts);
  // Unsigned, this position stays behind every axis whatever tap is added.
  constexpr int nowhere = -2147483647 - 1;
  if (at.lead >= gather.batch) return {0, -1, {nowhere, nowhere, nowhere}};
  RowPlace place{at.lead, at.lead, {}};
  for (int i = 0; i < 3; i++) {
    place.position[i] = lattice[i].sourceFirst + lattice[i].sourceStep * at.digit[i];
    place.source = place.source * axis[i].source + place.position[i];
    place.output = place.output * axis[i].output + lattice[i].first + lattice[i].step * at.digit[i];
  }
  return place;
}

// Brings tiles of both operands to shared memory, VECTOR numbers at a time. Each thread fills one column of
// every tile: it knows one tap and channel.
template <class Tile, int VECTOR>
struct GemmLoader {
  static constexpr int across = tileDepth / VECTOR, atOnce = Tile::threads / across;
  static_assert(Tile::rows % atOnce == 0 && Tile::columns % atOnce == 0, "every thread fills as many rows");

  const GatherCall& call;
  const BlockState<Tile>& block;
  int group, firstColumn;
  Digits at;

  __device__ GemmLoader(const GatherCall& call, const BlockState<Tile>& block, int group, int firstColumn,
                        int firstDepth)
      : call(call),
        block(block),
        group(group),
        firstColumn(firstColumn),
        at(Digits::of(firstDepth + threadIdx.x % across * VECTOR,
                      DepthRadix(block.lattice, call.gather.depth).radix)) {}

  __device__ __forceinline__ void load(float* tile) {
    const Gather& gather = call.gather;
    const GatherAxis(&axis)[3] = gather.axis;
    const Lattice(&lattice)[3] = block.lattice;
    const int tap[3] = {static_cast<int>(at.lead), at.digit[0], at.digit[1]}, channel = at.digit[2];
    const bool inside = at.lead < lattice[0].taps;
    int shift[3];
    int64_t voxels = 0, tapIndex = 0;
    for (int i = 0; i < 3; i++) {
      shift[i] = tap[i] * lattice[i].shift;
      voxels = voxels * axis[i].source + shift[i];
      tapIndex = tapIndex * axis[i].taps + lattice[i].tapFirst + tap[i] * lattice[i].tapStep;
    }
    const int row0 = threadIdx.x / across;
    float* to = tile + row0 * Tile::pitch + threadIdx.x % across * VECTOR;

    const int64_t channels = int64_t{gather.groups} * gather.depth;
    const float* source = call.source + int64_t{group} * gather.depth + channel;
    UNROLL for (int i = 0; i < Tile::rows / atOnce; i++) {
      const RowPlace& place = block.places[row0 + i * atOnce];
      bool valid = inside;
      for (int k = 0; k < 3; k++)
        valid = valid && static_cast<unsigned>(place.position[k]) + static_cast<unsigned>(shift[k]) <
                             static_cast<unsigned>(axis[k].source);
      copyAsync<VECTOR * 4>(to, valid ? source + (place.source + voxels) * channels : call.source, valid);
      to += atOnce * Tile::pitch;
    }
    const int64_t taps = gather.taps();
    UNROLL for (int i = 0; i < Tile::columns / atOnce; i++) {
      const int column = firstColumn + row0 + i * atOnce;
      const bool valid = inside && column < gather.columns;
      const float* from =
          call.weights + ((int64_t{group} * gather.columns + column) * taps + tapIndex) * gather.depth;
      copyAsync<VECTOR * 4>(to, valid ? from + channel : call.weights, valid);
      to += atOnce * Tile::pitch;
    }
    at.add(block.advance, DepthRadix(lattice, gather.depth).radix);
  }
};

template <class Tile, int VECTOR, bool STRICT>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    convGemmKernel(GatherCall call, int columnBlocks, int parts) {
  float* tiles = sharedMemory<float>();
  auto& block = *reinterpret_cast<BlockState<Tile>*>(tiles + Tile::stages * Tile::stageFloats);
  const Gather& gather = call.gather;

  // Blocks that read the same part of the source follow each other, those of its classes too.
  int64_t index = blockIdx.x;
  const int firstColumn = static_cast<int>(index % columnBlocks) * Tile::columns;
  index /= columnBlocks;
  const int group = static_cast<int>(index % gather.groups);
  index /= gather.groups;
  const int part = static_cast<int>(index % parts);
  index /= parts;
  const int64_t classes = gather.classes(), firstRow = index / classes * Tile::rows;
  if (threadIdx.x == 0) {
    index %= classes;
    for (int i = 2; i >= 0; i--) {
      const int residues = gather.axis[i].classes(gather.transposed);
      block.lattice[i] = gather.axis[i].lattice(gather.transposed, static_cast<int>(index % residues));
      index /= residues;
    }
  }
  __syncthreads();
  const Lattice(&lattice)[3] = block.lattice;
  const int depth = lattice[0].taps * lattice[1].taps * lattice[2].taps * gather.depth;
  for (int row = threadIdx.x; row < Tile::rows; row += Tile::threads)
    block.places[row] = placeOf(gather, lattice, firstRow + row);
  if (threadIdx.x == 0 && depth > 0)
    block.advance = Digits::of(tileDepth, DepthRadix(lattice, gather.depth).radix);
  __syncthreads();

  const int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  const int warpRow = warp / Tile::warpsAcross * Tile::warpRows;
  const int warpColumn = warp % Tile::warpsAcross * Tile::warpColumns;
  WarpProduct<Tile::warpRows, Tile::warpColumns, STRICT> product;

  const int all = (depth + tileDepth - 1) / tileDepth, most = (all + parts - 1) / parts;
  const int steps = all - part * most < most ? all - part * most : most;
  if (steps > 0) {
    GemmLoader<Tile, VECTOR> loader(call, block, group, firstColumn, part * most * tileDepth);
    for (int step = 0; step < Tile::stages - 1; step++) {
      if (step < steps) loader.load(tiles + step * Tile::stageFloats);
      commitCopies();
    }
    int computed = 0, loaded = Tile::stages - 1;
    for (int step = 0; step < steps; step++) {
      waitCopies<Tile::stages - 2>();
      __syncthreads();
      if (step + Tile::stages - 1 < steps) loader.load(tiles + loaded * Tile::stageFloats);
      commitCopies();
      const float* a =
          tiles + computed * Tile::stageFloats + (warpRow + lane % 16) * Tile::pitch + lane / 16 * 4;
      const float* b = tiles + computed * Tile::stageFloats +
                       (Tile::rows + warpColumn + lane / 16 * 8 + lane % 8) * Tile::pitch + lane / 8 % 2 * 4;
      product.add(
          [&](int row, int k, float(&into)[4]) { loadFragment(a + row * Tile::pitch + k, into); },
          [&](int column, int k, float(&into)[4]) { loadFragment(b + column * Tile::pitch + k, into); });
      computed = computed + 1 == Tile::stages ? 0 : computed + 1;
      loaded = loaded + 1 == Tile::stages ? 0 : loaded + 1;
    }
  }

  const int64_t before = part * gather.outputVoxels();
  product.forEachPair([&](int row, int column, float first, float second) {
    const int64_t voxel = block.places[warpRow + row].output;
    if (voxel >= 0) call.store(group, before + voxel, firstColumn + warpColumn + column, first, second);
  });
}

using Wide = GemmTile<128, 64, 32, 32, 3>;
using Half = GemmTile<128, 32, 32, 32, 3>;
using Narrow = GemmTile<128, 16, 32, 16, 3>;
using Small = GemmTile<64, 32, 32, 32, 3>;

struct Variant {
  int rows, columns;
  // By whether precision is strict.
  const char* names[2];
  void (*run[2])(const char* name, const Variant& variant, const GatherCall& call, int parts);

  int64_t rowBlocks(const Gather& gather) const { return divideUp(gather.classRows(), rows); }
  int columnBlocks(const Gather& gather) const { return static_cast<int>(divideUp(gather.columns, columns)); }
  // Saturates where it would overflow.
  int64_t blocks(const Gather& gather) const {
    int64_t count = rowBlocks(gather);
    for (const int64_t more : {gather.classes(), int64_t{gather.groups}, int64_t{columnBlocks(gather)}})
      if (__builtin_mul_overflow(count, more, &count)) return INT64_MAX;
    return count;
  }
};

template <class Tile, int VECTOR, bool STRICT>
void runVariant(const char* name, const Variant& variant, const GatherCall& call, int parts) {
  const size_t bytes = Tile::stages * Tile::stageFloats * sizeof(float) + sizeof(BlockState<Tile>);
  launch(name, convGemmKernel<Tile, VECTOR, STRICT>,
         Grid{static_cast<unsigned>(variant.blocks(call.gather) * parts), Tile::threads, bytes}, call,
         variant.columnBlocks(call.gather), parts);
}

template <class Tile, int VECTOR>
constexpr Variant variantOf(const char* tf32, const char* strict) {
  return {Tile::rows,
          Tile::columns,
          {tf32, strict},
          {runVariant<Tile, VECTOR, false>, runVariant<Tile, VECTOR, true>}};
}

const Variant wide = variantOf<Wide, 4>("implicit GEMM 128x64, tf32", "implicit GEMM 128x64, tf32x3");
const Variant half = variantOf<Half, 4>("implicit GEMM 128x32, tf32", "implicit GEMM 128x32, tf32x3");
const Variant narrow = variantOf<Narrow, 4>("implicit GEMM 128x16, tf32", "implicit GEMM 128x16, tf32x3");
const Variant small = variantOf<Small, 4>("implicit GEMM 64x32, tf32", "implicit GEMM 64x32, tf32x3");
// For channels that are no multiple of four.
const Variant looseNarrow = variantOf<Narrow, 1>("implicit GEMM 128x16 of single numbers, tf32",
                                                 "implicit GEMM 128x16 of single numbers, tf32x3");
const Variant looseSmall = variantOf<Small, 1>("implicit GEMM 64x32 of single numbers, tf32",
                                               "implicit GEMM 64x32 of single numbers, tf32x3");

constexpr int vectorTiles = 4;
const Variant* const variants[] = {&wide, &half, &small, &narrow, &looseSmall, &looseNarrow};

bool isLoose(const Gather& gather) { return gather.depth % 4 != 0; }

const Variant& looseOf(const Gather& gather) { return gather.columns <= 16 ? looseNarrow : looseSmall; }

}  // namespace

int gemmTile(const Gather& gather) {
  const bool few = gather.columns <= 16;
  if (isLoose(gather)) return few ? 5 : 4;
  if (few) return 3;
  // Tiles that are large reuse more, but a device of some hundred multiprocessors wants that many blocks.
  const int large = gather.columns <= 32 ? 1 : 0;
  return variants[large]->blocks(gather) < 128 ? 2 : large;
}

std::vector<int> gemmTiles(const Gather& gather) {
  if (isLoose(gather)) return {gemmTile(gather)};
  std::vector<int> tiles;
  for (int tile = 0; tile < vectorTiles; tile++)
    if (variants[tile]->columns <= 16 || variants[tile]->columns < 2 * gather.columns) tiles.push_back(tile);
  return tiles;
}

const char* gemmName(const Gather&, int tile) { return variants[tile]->names[strictPrecision()]; }

int64_t gemmBlocks(const Gather& gather, int tile) { return variants[tile]->blocks(gather); }

int64_t mostGemmBlocks(const Gather& gather) {
  int64_t most = looseOf(gather).blocks(gather);
  for (const int tile : gemmTiles(gather)) most = std::max(most, gemmBlocks(gather, tile));
  return most;
}

void runGemm(const GatherCall& call, int tile, int parts) {
  const bool vectors = aligned(call.source) && aligned(call.weights);
  const Variant& variant = vectors ? *variants[tile] : looseOf(call.gather);
  const bool strict = strictPrecision();
  variant.run[strict](variant.names[strict], variant, call, parts);
}

}  // namespace voxgrad::cuda
