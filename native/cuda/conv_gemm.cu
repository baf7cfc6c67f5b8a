#include <algorithm>

#include "conv_gemm.h"
#include "conv_gemm_tile.h"
#include "conv_sums.h"

namespace voxgrad::cuda {
namespace {

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
  int group, firstColumn;
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

// Brings tiles of both operands to shared memory: each thread knows one tap and channel.
template <class Tile, bool LOOSE, Precision P>
struct GemmLoader : TileFill<Tile, LOOSE, P> {
  using Fill = TileFill<Tile, LOOSE, P>;
  using Fill::across, Fill::atOnce, Fill::bytes, Fill::pitch, Fill::vector;
  using typename Fill::T;

  const GatherCall& call;
  const BlockState<Tile>& block;
  Digits at;

  __device__ GemmLoader(const GatherCall& call, const BlockState<Tile>& block, int firstDepth)
      : call(call),
        block(block),
        at(Digits::of(firstDepth + threadIdx.x % across * vector,
                      DepthRadix(block.lattice, call.gather.depth).radix)) {}

  __device__ __forceinline__ void load(T* tile) {
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
    T* to = tile + row0 * pitch + threadIdx.x % across * vector;

    const int64_t channels = int64_t{gather.groups} * gather.depth;
    const T* source = static_cast<const T*>(call.source) + int64_t{block.group} * gather.depth + channel;
    UNROLL for (int i = 0; i < Tile::rows / atOnce; i++) {
      const RowPlace& place = block.places[row0 + i * atOnce];
      bool valid = inside;
      for (int k = 0; k < 3; k++)
        valid = valid && static_cast<unsigned>(place.position[k]) + static_cast<unsigned>(shift[k]) <
                             static_cast<unsigned>(axis[k].source);
      bring<bytes>(to, valid ? source + (place.source + voxels) * channels : call.source, valid);
      to += atOnce * pitch;
    }
    const int64_t taps = gather.taps();
    UNROLL for (int i = 0; i < Tile::columns / atOnce; i++) {
      const int column = block.firstColumn + row0 + i * atOnce;
      const bool valid = inside && column < gather.columns;
      const T* from = static_cast<const T*>(call.weights) +
                      ((int64_t{block.group} * gather.columns + column) * taps + tapIndex) * gather.depth;
      bring<bytes>(to, valid ? from + channel : call.weights, valid);
      to += atOnce * pitch;
    }
    at.add(block.advance, DepthRadix(lattice, gather.depth).radix);
  }
};

template <class Tile, bool LOOSE, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    convGemmKernel(GatherCall call, int columnBlocks, int parts) {
  using Product = BlockProduct<Tile, P>;
  auto* const tiles = sharedMemory<Element<P>>();
  auto& block = *reinterpret_cast<BlockState<Tile>*>(tiles + Tile::stages * Product::stage);
  const Gather& gather = call.gather;

  // Blocks that read the same part of the source follow each other, those of its classes too.
  int64_t index = blockIdx.x;
  const auto columnBlock = static_cast<int>(index % columnBlocks);
  index /= columnBlocks;
  const auto group = static_cast<int>(index % gather.groups);
  index /= gather.groups;
  const int part = static_cast<int>(index % parts);
  index /= parts;
  const int64_t chunk = index, classes = gather.classes(), firstRow = index / classes * Tile::rows;
  if (threadIdx.x == 0) {
    block.group = group;
    block.firstColumn = columnBlock * Tile::columns;
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
  for (int row = threadIdx.x; row < Tile::rows; row += Tile::threads) {
    RowPlace place = placeOf(gather, lattice, firstRow + row);
    if (place.output >= 0) place.output += part * gather.outputVoxels();
    block.places[row] = place;
  }
  if (threadIdx.x == 0 && depth > 0)
    block.advance = Digits::of(tileDepth<P>, DepthRadix(lattice, gather.depth).radix);
  __syncthreads();

  Product product;
  const int all = (depth + tileDepth<P> - 1) / tileDepth<P>, most = (all + parts - 1) / parts;
  const int steps = all - part * most < most ? all - part * most : most;
  if (steps > 0) {
    GemmLoader<Tile, LOOSE, P> loader(call, block, part * most * tileDepth<P>);
    product.add(tiles, loader, steps);
  }
  product.forEachPair([&](int row, int column, float first, float second) {
    const int64_t voxel = block.places[row].output;
    if (voxel >= 0) call.store<P>(block.group, voxel, block.firstColumn + column, first, second);
  });
  if (call.sums == nullptr) return;
  sumBlock<Tile>(call, product.ofWarp, tiles, block.group, block.firstColumn, chunk,
                 [&](int row) { return block.places[row].output >= 0; });
}

using Wide = GemmTile<128, 64, 32, 32, 3>;
using Half = GemmTile<128, 32, 32, 32, 3>;
using Narrow = GemmTile<128, 16, 32, 16, 3>;
using Small = GemmTile<64, 32, 32, 32, 3>;

struct Variant {
  int rows, columns;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const GatherCall& call, int parts)> run;

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

template <class Tile, bool LOOSE, Precision P>
void runVariant(const char* name, const Variant& variant, const GatherCall& call, int parts) {
  const size_t bytes = Tile::stages * Tile::stageBytes + sizeof(BlockState<Tile>);
  launch(name, convGemmKernel<Tile, LOOSE, P>,
         Grid{static_cast<unsigned>(variant.blocks(call.gather) * parts), Tile::threads, bytes}, call,
         variant.columnBlocks(call.gather), parts);
}

template <class Tile, bool LOOSE>
constexpr Variant variantOf(const Names& names) {
  return {Tile::rows,
          Tile::columns,
          names,
          {{runVariant<Tile, LOOSE, Precision::f32>, runVariant<Tile, LOOSE, Precision::tf32>,
            runVariant<Tile, LOOSE, Precision::bf16>}}};
}

const Variant wide = variantOf<Wide, false>(
    {{"implicit GEMM 128x64, tf32x3", "implicit GEMM 128x64, tf32", "implicit GEMM 128x64, bf16"}});
const Variant half = variantOf<Half, false>(
    {{"implicit GEMM 128x32, tf32x3", "implicit GEMM 128x32, tf32", "implicit GEMM 128x32, bf16"}});
const Variant narrow = variantOf<Narrow, false>(
    {{"implicit GEMM 128x16, tf32x3", "implicit GEMM 128x16, tf32", "implicit GEMM 128x16, bf16"}});
const Variant small = variantOf<Small, false>(
    {{"implicit GEMM 64x32, tf32x3", "implicit GEMM 64x32, tf32", "implicit GEMM 64x32, bf16"}});
// For channels that fill no chunk.
const Variant looseNarrow = variantOf<Narrow, true>(
    {{"implicit GEMM 128x16 of single numbers, tf32x3", "implicit GEMM 128x16 of single numbers, tf32",
      "implicit GEMM 128x16 of single numbers, bf16"}});
const Variant looseSmall = variantOf<Small, true>(
    {{"implicit GEMM 64x32 of single numbers, tf32x3", "implicit GEMM 64x32 of single numbers, tf32",
      "implicit GEMM 64x32 of single numbers, bf16"}});

constexpr int fullTiles = 4;
const Variant* const variants[] = {&wide, &half, &small, &narrow, &looseSmall, &looseNarrow};

bool isLoose(const Gather& gather, Precision precision) {
  return gather.depth % chunkOfPrecision(precision) != 0;
}

const Variant& looseOf(const Gather& gather) { return gather.columns <= 16 ? looseNarrow : looseSmall; }

// Those that may suit channels which fill chunks.
std::vector<int> fullTilesOf(const Gather& gather) {
  std::vector<int> tiles;
  for (int tile = 0; tile < fullTiles; tile++)
    if (variants[tile]->columns <= 16 || variants[tile]->columns < 2 * gather.columns) tiles.push_back(tile);
  return tiles;
}

}  // namespace

int gemmTile(const Gather& gather, Precision precision) {
  const bool few = gather.columns <= 16;
  if (isLoose(gather, precision)) return few ? 5 : 4;
  if (few) return 3;
  // Tiles that are large reuse more, but a device of some hundred multiprocessors wants that many blocks.
  const int large = gather.columns <= 32 ? 1 : 0;
  return variants[large]->blocks(gather) < 128 ? 2 : large;
}

std::vector<int> gemmTiles(const Gather& gather, Precision precision) {
  if (isLoose(gather, precision)) return {gemmTile(gather, precision)};
  return fullTilesOf(gather);
}

const char* gemmName(int tile, Precision precision) { return variants[tile]->names[precision]; }

int64_t gemmBlocks(const Gather& gather, int tile) { return variants[tile]->blocks(gather); }

int64_t gemmChunks(const Gather& gather, int tile) {
  return variants[tile]->rowBlocks(gather) * gather.classes();
}

int64_t mostGemmBlocks(const Gather& gather) {
  int64_t most = looseOf(gather).blocks(gather);
  for (const int tile : fullTilesOf(gather)) most = std::max(most, gemmBlocks(gather, tile));
  return most;
}

void runGemm(const GatherCall& call, int tile, int parts) {
  const bool full = aligned(call.source) && aligned(call.weights);
  const Variant& variant = full ? *variants[tile] : looseOf(call.gather);
  const Precision precision = call.precision;
  variant.run[precision](variant.names[precision], variant, call, parts);
}

}  // namespace voxgrad::cuda
