#include <algorithm>

#include "conv_fold.h"
#include "conv_halo_plan.h"
#include "conv_sums.h"

namespace voxgrad::cuda {
namespace {

// Taps along the width.
constexpr int folds = 3;
// A block computes 14 voxels of each of 16 lines: what the 16 voxels of such a line's halo are summed to.
constexpr BlockShape shape{16, voxelsOfLine - (folds - 1)};

// Rows are voxels of the halo, 16 of every line, until their products are added. Each warp has 64 of them, of
// which it multiplies `together` at a time: sums of floats take twice the registers.
template <Precision P>
struct FoldTile {
  static constexpr int rows = shape.lines * voxelsOfLine, columns = 16, warpRows = 64, warpColumns = columns;
  static constexpr int warpsAcross = 1, threads = rows / warpRows * warpSize;
  static constexpr int together = P == Precision::bf16 ? 64 : 32;
  // Depth of what is multiplied at a time.
  static constexpr int depth = productDepth<P> * (P == Precision::bf16 ? 1 : 2);
  // In front of everything else, for sumBlock; halos begin at multiples of 16 bytes.
  static constexpr size_t sumBytes = (sizeof(BlockSums<columns, rows / warpRows>) + 15) / 16 * 16;
};

// The depth is the channels at each tap but for those along the width.
struct FoldDepth {
  int all, steps;

  template <Precision P>
  static __host__ __device__ FoldDepth of(const Gather& gather) {
    const int all = gather.axis[0].taps * gather.axis[1].taps * gather.depth;
    return {all, (all + FoldTile<P>::depth - 1) / FoldTile<P>::depth};
  }
  template <Precision P>
  __host__ __device__ int chunks() const {
    return steps * FoldTile<P>::depth / chunkOf<Element<P>>;
  }
  // Elements of a column of weights in shared memory: eight columns lie in different banks.
  template <Precision P>
  __host__ __device__ int pitch() const {
    return steps * FoldTile<P>::depth + chunkOf<Element<P>>;
  }
};

// Brings the weights of a group. Column j of fold i has those of the tap that reads, for an output voxel, the
// source i voxels behind the beginning of its halo.
template <Precision P>
__device__ void loadWeights(const GatherCall& call, const HaloPlan& plan, const FoldDepth& depth, int group,
                            Element<P>* weights) {
  using T = Element<P>;
  constexpr int chunk = chunkOf<T>, columns = FoldTile<P>::columns;
  const Gather& gather = call.gather;
  const int chunks = depth.chunks<P>(), pitch = depth.pitch<P>();
  const T* const own =
      static_cast<const T*>(call.weights) + int64_t{group} * gather.columns * folds * depth.all;
  for (int i = threadIdx.x; i < folds * columns * chunks; i += FoldTile<P>::threads) {
    const int row = i / chunks, at = i % chunks * chunk, fold = row / columns, column = row % columns;
    const bool valid = column < gather.columns && at < depth.all;
    const int line = at / gather.depth, tap = plan.shift[2] > 0 ? fold : folds - 1 - fold;
    const T* const from = own + (int64_t{column} * depth.all + line * gather.depth) * folds +
                          tap * gather.depth + at % gather.depth;
    copyAsync<16>(weights + row * pitch + at, valid ? from : call.weights, valid);
  }
}

// What the lane of the next row has, of the row itself and of the one eight further down; the last row of a
// line gets something that does not belong to it.
__device__ __forceinline__ void shiftRows(float& upper, float& lower) {
  constexpr int row = 4;  // lanes
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const float toUpper = __shfl_sync(fullWarp, lane < row ? lower : upper, (lane + row) % warpSize);
  lower = __shfl_sync(fullWarp, lower, (lane + row) % warpSize);
  upper = toUpper;
}

// Adds the three products of each line at the output voxels that they belong to; of all lines of a warp,
// those from row `first` on.
template <int ROWS, class Tile, Precision P>
__device__ __forceinline__ void unfold(const WarpProduct<ROWS, folds * Tile::columns, P>& product, int first,
                                       WarpProduct<Tile::warpRows, Tile::columns, P>& all) {
  constexpr int across = Tile::columns / 8;
  UNROLL for (int i = 0; i < ROWS / 16; i++) UNROLL for (int j = 0; j < across; j++)
      UNROLL for (int n = 0; n < 2; n++) {
    float upper = 0, lower = 0;
    UNROLL for (int fold = folds - 1; fold >= 0; fold--) {
      if (fold < folds - 1) shiftRows(upper, lower);
      upper += product.total[i][fold * across + j][n];
      lower += product.total[i][fold * across + j][2 + n];
    }
    all.total[first / 16 + i][j][n] = upper;
    all.total[first / 16 + i][j][2 + n] = lower;
  }
}

template <Precision P>
__global__ void __launch_bounds__(FoldTile<P>::threads, P == Precision::bf16 ? 3 : 2)
    convFoldKernel(GatherCall call, HaloPlan plan, int64_t blocks) {
  using Tile = FoldTile<P>;
  using T = Element<P>;
  constexpr int chunk = chunkOf<T>;
  const Gather& gather = call.gather;
  const FoldDepth depth = FoldDepth::of<P>(gather);
  const int pitch = depth.pitch<P>();
  T* const halo = reinterpret_cast<T*>(sharedMemory<unsigned char>() + Tile::sumBytes);
  T* const weights = halo + plan.voxels() * plan.pitch;
  int* const offsets = reinterpret_cast<int*>(weights + folds * Tile::columns * pitch);
  Affine* const maps = reinterpret_cast<Affine*>(offsets + depth.chunks<P>());
  const int group = static_cast<int>(blockIdx.x % gather.groups);
  loadWeights<P>(call, plan, depth, group, weights);
  tabulateTaps<Tile::threads>(gather, plan, 2, chunk, depth.all, depth.chunks<P>(), offsets);
  if (call.norm) call.norm.spread(int64_t{group} * gather.depth, gather.depth, maps);

  const int warp = static_cast<int>(threadIdx.x) / warpSize, lane = static_cast<int>(threadIdx.x) % warpSize;
  const T* const columns = weights + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * chunk;
  for (int64_t each = blockIdx.x / gather.groups; each < blocks; each += gridDim.x / gather.groups) {
    const Digits block = Digits::of(each, plan.blocks);
    const int start[3] = {block.digit[0] * plan.block[0], block.digit[1] * plan.block[1],
                          block.digit[2] * plan.block[2]};
    __syncthreads();
    loadHalo<Tile::threads>(gather, plan, static_cast<const T*>(call.source), group, block.lead, start, halo);
    commitCopies();
    waitCopies<0>();
    if (call.norm) normalizeHalo<Tile::threads>(gather, plan, start, maps, halo);
    __syncthreads();

    WarpProduct<Tile::warpRows, Tile::columns, P> all;
    UNROLL for (int first = 0; first < Tile::warpRows; first += Tile::together) {
      const T* rows[Tile::together / voxelsOfLine];
      UNROLL for (int i = 0; i < Tile::together / voxelsOfLine; i++) {
        const int line = (warp * Tile::warpRows + first) / voxelsOfLine + i;
        rows[i] = halo + ((line / plan.block[1] * plan.halo[1] + line % plan.block[1]) * plan.halo[2] +
                          lane % voxelsOfLine) *
                             plan.pitch;
      }
      WarpProduct<Tile::together, folds * Tile::columns, P> product;
      for (int step = 0; step < depth.steps; step++) {
        const int* offset = offsets + step * (Tile::depth / chunk) + lane / 16;
        product.template add<Tile::depth>(
            [&](int row, int k, uint32_t(&into)[4]) {
              loadMatrices(into, rows[row / voxelsOfLine] + offset[k / chunk]);
            },
            [&](int column, int k, uint32_t(&into)[4]) {
              loadMatrices(into, columns + column * pitch + step * Tile::depth + k);
            });
      }
      unfold<Tile::together, Tile>(product, first, all);
    }

    // The voxel of the output that a row is, or -1.
    const auto voxelOf = [&](int row) {
      const int line = row / voxelsOfLine, x = row % voxelsOfLine;
      const int position[3] = {start[0] + line / plan.block[1], start[1] + line % plan.block[1],
                               start[2] + x};
      int64_t voxel = x < plan.block[2] ? block.lead : -1;
      for (int k = 0; k < 3 && voxel >= 0; k++)
        voxel = position[k] < gather.axis[k].output ? voxel * gather.axis[k].output + position[k] : -1;
      return voxel;
    };
    all.forEachPair([&](int row, int column, float left, float right) {
      const int64_t voxel = voxelOf(warp * Tile::warpRows + row);
      if (voxel >= 0) call.store<P>(group, voxel, column, left, right);
    });
    if (call.sums != nullptr)
      sumBlock<Tile>(call, all, sharedMemory<char>(), group, 0, each,
                     [&](int row) { return voxelOf(row) >= 0; });
  }
}

HaloPlan planOf(const Gather& gather, Precision precision) { return haloPlanOf(gather, precision, shape); }

template <Precision P>
size_t sharedBytesOf(const Gather& gather) {
  const FoldDepth depth = FoldDepth::of<P>(gather);
  const HaloPlan plan = planOf(gather, P);
  const int64_t elements =
      int64_t{plan.voxels()} * plan.pitch + int64_t{folds * FoldTile<P>::columns} * depth.template pitch<P>();
  return FoldTile<P>::sumBytes + static_cast<size_t>(elements) * sizeof(Element<P>) +
         static_cast<size_t>(depth.template chunks<P>()) * sizeof(int) +
         static_cast<size_t>(gather.depth) * sizeof(Affine);
}

template <Precision P>
void run(const char* name, const GatherCall& call) {
  const Gather& gather = call.gather;
  const int64_t blocks = foldChunks(gather, P);
  // A block of threads brings the weights once for all of its voxels; a multiprocessor has two or three.
  const int64_t rounds = std::min(blocks, std::max<int64_t>(1, 132 * 6 / gather.groups));
  launch(name, convFoldKernel<P>,
         Grid{static_cast<unsigned>(rounds * gather.groups), FoldTile<P>::threads, sharedBytesOf<P>(gather)},
         call, planOf(gather, P), blocks);
}

struct Variant {
  const char* name;
  size_t (*sharedBytes)(const Gather& gather);
  void (*run)(const char* name, const GatherCall& call);
};

template <Precision P>
constexpr Variant variantOf(const char* name) {
  return {name, sharedBytesOf<P>, run<P>};
}

const ByPrecision<Variant> variants = {{variantOf<Precision::f32>("folded halo 224x16, tf32x3"),
                                        variantOf<Precision::tf32>("folded halo 224x16, tf32"),
                                        variantOf<Precision::bf16>("folded halo 224x16, bf16")}};

}  // namespace

bool suitsFold(const Gather& gather, Precision precision) {
  const int chunk = chunkOfPrecision(precision);
  return gather.axis[2].taps == folds && gather.axis[2].dilation == 1 && gather.columns > 8 &&
         gather.columns <= 16 && gather.depth % chunk == 0 && gather.depth <= 16 * chunk &&
         worthHalo(gather, precision, shape) && variants[precision].sharedBytes(gather) <= mostSharedBytes;
}

const char* foldName(Precision precision) { return variants[precision].name; }

int64_t foldChunks(const Gather& gather, Precision precision) {
  const HaloPlan plan = planOf(gather, precision);
  return gather.batch * plan.blocks[0] * plan.blocks[1] * plan.blocks[2];
}

void runFold(const GatherCall& call) {
  const Variant& variant = variants[call.precision];
  variant.run(variant.name, call);
}

}  // namespace voxgrad::cuda
