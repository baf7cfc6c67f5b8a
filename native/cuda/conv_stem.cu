#include <algorithm>

#include "conv_stem.h"
#include "conv_stem_plan.h"
#include "conv_sums.h"

namespace voxgrad::cuda {
namespace {

// A block computes 128 voxels, 16 of a line, times COLUMNS, then the next 128; each of its warps 32 of them.
template <int COLUMNS>
struct StemTile {
  static constexpr int rows = voxelsOfBlock, columns = COLUMNS, warpRows = 32, warpColumns = COLUMNS;
  static constexpr int warpsAcross = 1, threads = rows / warpRows * warpSize;
  using Sums = BlockSums<columns, rows / warpRows>;
};

// Words of a tile along the depth.
constexpr int wordsOfTile = 32;

// The depth: the taps of a line, as many as fill words, line by line.
struct StemDepth {
  int width, lines, steps;

  static StemDepth of(const Gather& gather, Precision precision) {
    const int word = elementsOfWordOf(precision);
    const int width = static_cast<int>(divideUp(gather.axis[2].taps, word)) * word;
    const int lines = gather.axis[0].taps * gather.axis[1].taps;
    return {width, lines, static_cast<int>(divideUp(int64_t{lines} * width, wordsOfTile * word))};
  }
  // Elements of a column of weights in shared memory: eight columns lie in different banks.
  template <Precision P>
  __device__ int pitch() const {
    return steps * tileDepth<P> + chunkOf<Element<P>>;
  }
};

// For every word along the depth, where it is in the map of a block's voxel 0. Behind the depth, where
// weights are zero, that is what the first tap reads.
template <class Tile, Precision P>
__device__ void tabulate(const Gather& gather, const StemPlan& plan, const StemDepth& depth, int* offsets) {
  for (int i = threadIdx.x; i < depth.steps * wordsOfTile; i += Tile::threads) {
    const int at = i * elementsOfWord<P>, line = at / depth.width, taps = gather.axis[1].taps;
    const int z = line / taps * gather.axis[0].dilation, y = line % taps * gather.axis[1].dilation;
    offsets[i] = line < depth.lines ? (z * plan.halo[1] + y) * plan.pitch + at % depth.width : 0;
  }
}

template <class Tile, Precision P>
__device__ void loadWeights(const GatherCall& call, const StemDepth& depth, int firstColumn,
                            Element<P>* weights) {
  using T = Element<P>;
  const int taps = call.gather.axis[2].taps, all = depth.steps * tileDepth<P>;
  for (int i = threadIdx.x; i < Tile::columns * all; i += Tile::threads) {
    const int column = i / all, line = i % all / depth.width, tap = i % all % depth.width;
    const bool valid = firstColumn + column < call.gather.columns && line < depth.lines && tap < taps;
    const int64_t from = (int64_t{firstColumn + column} * depth.lines + line) * taps + tap;
    weights[column * depth.pitch<P>() + i % all] =
        valid ? static_cast<const T*>(call.weights)[from] : T(0.0f);
  }
}

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::columns > 16 ? 3 : 4)
    convStemKernel(GatherCall call, StemPlan plan, StemDepth depth, int columnBlocks, int64_t blocks) {
  using T = Element<P>;
  const Gather& gather = call.gather;
  const int pitch = depth.pitch<P>();
  T* weights = sharedMemory<T>();
  T* map = weights + Tile::columns * pitch;
  int* offsets = reinterpret_cast<int*>(map + (plan.copy + plan.elements() + 7) / 8 * 8);
  void* const sums = offsets + depth.steps * wordsOfTile;
  const int firstColumn = static_cast<int>(blockIdx.x % columnBlocks) * Tile::columns;
  loadWeights<Tile, P>(call, depth, firstColumn, weights);
  tabulate<Tile, P>(gather, plan, depth, offsets);

  const int warpRow = static_cast<int>(threadIdx.x) / warpSize * Tile::warpRows;
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  // Of the rows lane / 4 and, behind half a line, lane / 4 + 8 of each fragment.
  const int half = voxelsOfLine / 2 * gather.axis[2].stride;
  const T* rows[Tile::warpRows / voxelsOfLine];
  UNROLL for (int i = 0; i < Tile::warpRows / voxelsOfLine; i++) {
    const int line = warpRow / voxelsOfLine + i;
    const int z = line / plan.block[1] * gather.axis[0].stride;
    const int y = line % plan.block[1] * gather.axis[1].stride;
    rows[i] =
        map + (z * plan.halo[1] + y) * plan.pitch + alignedAt<P>(plan, lane / 4 * gather.axis[2].stride);
  }
  const T* columns = weights + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * chunkOf<T>;

  for (int64_t each = blockIdx.x / columnBlocks; each < blocks; each += gridDim.x / columnBlocks) {
    const Digits block = Digits::of(each, plan.blocks);
    const int first[3] = {block.digit[0] * plan.block[0], block.digit[1] * plan.block[1],
                          block.digit[2] * plan.block[2]};
    __syncthreads();
    loadMap<Tile::threads>(gather, plan, static_cast<const T*>(call.source), block.lead, first, map);
    __syncthreads();
    WarpProduct<Tile::warpRows, Tile::columns, P> product;
    for (int step = 0; step < depth.steps; step++) {
      const int* offset = offsets + step * wordsOfTile + lane % 4;
      product.add(
          [&](int row, int k, uint32_t(&into)[4]) {
            UNROLL for (int i = 0; i < 4; i++) into[i] =
                wordAt(rows[row / voxelsOfLine] + offset[k / elementsOfWord<P> + i / 2 * 4] + i % 2 * half);
          },
          [&](int column, int k, uint32_t(&into)[4]) {
            loadMatrices(into, columns + column * pitch + step * tileDepth<P> + k);
          });
    }
    // The voxel of the output that a row is, or -1.
    const auto voxelOf = [&](int row) {
      const int line = row / voxelsOfLine;
      const int position[3] = {first[0] + line / plan.block[1], first[1] + line % plan.block[1],
                               first[2] + row % voxelsOfLine};
      int64_t voxel = block.lead;
      for (int k = 0; k < 3 && voxel >= 0; k++)
        voxel = position[k] < gather.axis[k].output ? voxel * gather.axis[k].output + position[k] : -1;
      return voxel;
    };
    product.forEachPair([&](int row, int column, float left, float right) {
      const int64_t voxel = voxelOf(warpRow + row);
      if (voxel >= 0) call.store<P>(0, voxel, firstColumn + column, left, right);
    });
    if (call.sums != nullptr)
      sumBlock<Tile>(call, product, sums, 0, firstColumn, each, [&](int row) { return voxelOf(row) >= 0; });
  }
}

struct Variant {
  int columns;
  size_t sumBytes;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const GatherCall& call)> run;

  int columnBlocks(const Gather& gather) const { return static_cast<int>(divideUp(gather.columns, columns)); }
};

StemPlan planOf(const Gather& gather, Precision precision) {
  return stemPlanOf(gather, precision, 1, StemDepth::of(gather, precision).width);
}

size_t sharedBytes(const Variant& variant, const Gather& gather, Precision precision) {
  const int64_t steps = StemDepth::of(gather, precision).steps;
  const int element = 16 / chunkOfPrecision(precision);
  return static_cast<size_t>(variant.columns * (steps * 128 + 16) +
                             int64_t{elementsOf(planOf(gather, precision))} * element) +
         static_cast<size_t>(steps * wordsOfTile) * sizeof(int) + variant.sumBytes;
}

template <class Tile, Precision P>
void runVariant(const char* name, const Variant& variant, const GatherCall& call) {
  const StemPlan plan = planOf(call.gather, P);
  const int64_t blocks = stemChunks(call.gather, P);
  // A block brings the weights once for all of its voxels.
  const int columnBlocks = variant.columnBlocks(call.gather);
  const int64_t rounds = std::min(blocks, std::max<int64_t>(1, mostBlocks / 2 / columnBlocks));
  launch(
      name, convStemKernel<Tile, P>,
      Grid{static_cast<unsigned>(rounds * columnBlocks), Tile::threads, sharedBytes(variant, call.gather, P)},
      call, plan, StemDepth::of(call.gather, P), columnBlocks, blocks);
}

template <int COLUMNS>
constexpr Variant variantOf(const Names& names) {
  using Tile = StemTile<COLUMNS>;
  return {COLUMNS,
          sizeof(typename Tile::Sums),
          names,
          {{runVariant<Tile, Precision::f32>, runVariant<Tile, Precision::tf32>,
            runVariant<Tile, Precision::bf16>}}};
}

const Variant narrow = variantOf<16>({{"stem 128x16, tf32x3", "stem 128x16, tf32", "stem 128x16, bf16"}});
const Variant wide = variantOf<32>({{"stem 128x32, tf32x3", "stem 128x32, tf32", "stem 128x32, bf16"}});

const Variant& choose(const Gather& gather) { return gather.columns <= 16 ? narrow : wide; }

}  // namespace

bool suitsStem(const Gather& gather, Precision precision) {
  return isStem(gather) && gather.columns < 1 << 20 &&
         sharedBytes(choose(gather), gather, precision) <= mostSharedBytes;
}

int64_t stemChunks(const Gather& gather, Precision precision) {
  const StemPlan plan = planOf(gather, precision);
  return gather.batch * plan.blocks[0] * plan.blocks[1] * plan.blocks[2];
}

const char* stemName(const Gather& gather, Precision precision) { return choose(gather).names[precision]; }

void runStem(const GatherCall& call) {
  const Variant& variant = choose(call.gather);
  variant.run[call.precision](variant.names[call.precision], variant, call);
}

}  // namespace voxgrad::cuda
