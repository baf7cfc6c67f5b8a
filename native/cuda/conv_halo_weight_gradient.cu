#include <algorithm>

#include "conv_halo_plan.h"
#include "conv_halo_weight_gradient.h"
#include "conv_slabs.h"
#include "conv_tile.h"

namespace voxgrad::cuda {
namespace {

// A block computes the gradients of ROWS filters for as many pairs of tap and input channel as its warps
// cover, WARP_COLUMNS each: all of 27 taps and 16 channels where there are so few filters.
template <int ROWS, int WARP_COLUMNS, int WARPS>
struct HaloGradientTile {
  static constexpr int rows = ROWS, warpColumns = WARP_COLUMNS, warps = WARPS;
  static constexpr int columns = warps * WARP_COLUMNS, threads = warps * warpSize;
  // Elements of dy from one voxel to the next: four voxels of eight filters lie in different banks.
  static constexpr int pitch = ROWS + 8;
};

struct HaloGradientCall {
  Gather gather;  // of the forward pass
  HaloPlan plan;
  int64_t blocks, slab;  // of voxels, and how many of them are added up together
  const void *x, *dy;
  SourceNorm norm;  // of x
  float* partial;   // [slabs, dw]
};

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::rows > 16 ? 1 : 2)
    haloWeightGradientKernel(HaloGradientCall call, int rowBlocks, int columnBlocks) {
  const Gather& gather = call.gather;
  const HaloPlan& plan = call.plan;
  using T = Element<P>;
  T* dy = sharedMemory<T>();
  T* halo = dy + voxelsOfBlock * Tile::pitch;
  Affine* maps = reinterpret_cast<Affine*>(halo + plan.voxels() * plan.pitch);

  int64_t index = blockIdx.x;
  const int firstColumn = static_cast<int>(index % columnBlocks) * Tile::columns;
  index /= columnBlocks;
  const int firstRow = static_cast<int>(index % rowBlocks) * Tile::rows;
  index /= rowBlocks;
  const int group = static_cast<int>(index % gather.groups);
  const int64_t slab = index / gather.groups;
  const int64_t begin = slab * call.slab;
  const int64_t end = begin + call.slab < call.blocks ? begin + call.slab : call.blocks;

  const int warpColumn = firstColumn + static_cast<int>(threadIdx.x) / warpSize * Tile::warpColumns;
  const int columns = static_cast<int>(gather.taps()) * gather.depth;
  // Where eight columns each, of one tap, are in the halo of a block's voxel 0.
  int offsets[Tile::warpColumns / 8];
  UNROLL for (int j = 0; j < Tile::warpColumns / 8; j++) {
    const int column = warpColumn + j * 8 < columns ? warpColumn + j * 8 : 0;
    int tap = column / gather.depth, voxel = 0, stride = 1;
    for (int k = 2; k >= 0; k--) {
      voxel += tap % gather.axis[k].taps * plan.shift[k] * stride;
      tap /= gather.axis[k].taps;
      stride *= plan.halo[k];
    }
    offsets[j] = voxel * plan.pitch + column % gather.depth;
  }

  if (call.norm) call.norm.spread(int64_t{group} * gather.depth, gather.depth, maps);
  WarpProduct<Tile::rows, Tile::warpColumns, P> product;
  const ColumnsByDepth<P> columnsOfHalo(halo, plan.pitch);
  for (int64_t each = begin; each < end; each++) {
    const Digits block = Digits::of(each, plan.blocks);
    const int first[3] = {block.digit[0] * plan.block[0], block.digit[1] * plan.block[1],
                          block.digit[2] * plan.block[2]};
    __syncthreads();
    loadOutputGradient<Tile>(gather, plan.block, static_cast<const T*>(call.dy), group, firstRow, block.lead,
                             first, dy);
    loadHalo<Tile::threads>(gather, plan, static_cast<const T*>(call.x), group, block.lead, first, halo);
    commitCopies();
    waitCopies<0>();
    if (call.norm) normalizeHalo<Tile::threads>(gather, plan, first, maps, halo);
    __syncthreads();
    if (warpColumn >= columns) continue;
    for (int voxel = 0; voxel < voxelsOfBlock; voxel += tileDepth<P>) {
      const RowsByDepth<P> a(dy + voxel * Tile::pitch, Tile::pitch);
      int b[tileDepth<P> / voxelsOfLine];
      UNROLL for (int i = 0; i < tileDepth<P> / voxelsOfLine; i++) {
        const int line = voxel / voxelsOfLine + i;
        b[i] = (line / plan.block[1] * plan.halo[1] + line % plan.block[1]) * plan.halo[2] * plan.pitch;
      }
      product.add([&](int row, int k, uint32_t(&into)[4]) { a.load(row, k, Tile::pitch, into); },
                  [&](int column, int k, uint32_t(&into)[4]) {
                    const int line = b[k / voxelsOfLine];
                    columnsOfHalo.load(line + offsets[column / 8], line + offsets[column / 8 + 1],
                                       k % voxelsOfLine, plan.pitch, into);
                  });
    }
  }

  const int64_t filters = int64_t{gather.groups} * gather.columns;
  product.forEachPair([&](int row, int column, float left, float right) {
    const int filter = firstRow + row, at = warpColumn + column;
    if (filter >= gather.columns || at >= columns) return;
    float* to = call.partial + (slab * filters + int64_t{group} * gather.columns + filter) * columns + at;
    to[0] = left;
    to[1] = right;
  });
}

using Thin = HaloGradientTile<16, 64, 7>;
using Flat = HaloGradientTile<32, 32, 9>;

struct Variant {
  int rows, columns, tileElements;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const HaloGradientCall& call,
                       unsigned blocks)>
      run;

  int rowBlocks(const Gather& gather) const { return static_cast<int>(divideUp(gather.columns, rows)); }
  int columnBlocks(const Gather& gather) const {
    return static_cast<int>(divideUp(gather.taps() * gather.depth, columns));
  }
  // Blocks of one slab.
  int64_t blocks(const Gather& gather) const {
    return int64_t{gather.groups} * rowBlocks(gather) * columnBlocks(gather);
  }
  size_t sharedBytes(const HaloGradientCall& call, Precision precision) const {
    const int element = 16 / chunkOfPrecision(precision);
    return static_cast<size_t>(tileElements + int64_t{call.plan.voxels()} * call.plan.pitch) * element +
           call.gather.depth * sizeof(Affine);
  }
};

template <class Tile, Precision P>
void runVariant(const char* name, const Variant& variant, const HaloGradientCall& call, unsigned blocks) {
  launch(name, haloWeightGradientKernel<Tile, P>, Grid{blocks, Tile::threads, variant.sharedBytes(call, P)},
         call, variant.rowBlocks(call.gather), variant.columnBlocks(call.gather));
}

template <class Tile>
constexpr Variant variantOf(const Names& names) {
  return {Tile::rows,
          Tile::columns,
          voxelsOfBlock * Tile::pitch,
          names,
          {{runVariant<Tile, Precision::f32>, runVariant<Tile, Precision::tf32>,
            runVariant<Tile, Precision::bf16>}}};
}

const Variant thin = variantOf<Thin>(
    {{"halo over voxels 16x448, tf32x3", "halo over voxels 16x448, tf32", "halo over voxels 16x448, bf16"}});
const Variant flat = variantOf<Flat>(
    {{"halo over voxels 32x288, tf32x3", "halo over voxels 32x288, tf32", "halo over voxels 32x288, bf16"}});

const Variant& choose(const Gather& gather) { return gather.columns <= 16 ? thin : flat; }

HaloGradientCall callOf(const Conv3dProblem& problem, Precision precision) {
  HaloGradientCall call{};
  call.gather = gatherOf(problem, false);
  call.plan = haloPlanOf(call.gather, precision);
  // Four voxels of eight channels lie in different banks.
  call.plan.pitch = call.gather.depth / 8 % 2 != 0 ? call.gather.depth : call.gather.depth + 8;
  call.blocks = call.gather.batch * call.plan.blocks[0] * call.plan.blocks[1] * call.plan.blocks[2];
  // By the problem alone, so that sums have the same order everywhere; few enough voxels for float32.
  const int64_t most = 65536 / voxelsOfBlock;
  const int64_t wanted = divideUp(264, std::min<int64_t>(264, choose(call.gather).blocks(call.gather)));
  call.slab = std::min(most, divideUp(call.blocks, wanted));
  return call;
}

int64_t slabsOf(const HaloGradientCall& call) { return divideUp(call.blocks, call.slab); }

int64_t weightsOf(const Gather& gather) {
  return int64_t{gather.groups} * gather.columns * gather.taps() * gather.depth;
}

}  // namespace

bool suitsHaloWeightGradient(const Conv3dProblem& problem, Precision precision) {
  const Gather gather = gatherOf(problem, false);
  const int chunk = chunkOfPrecision(precision);
  if (gather.depth % 8 != 0 || gather.depth > 16 * chunk || gather.columns % chunk != 0 ||
      !worthHalo(gather, precision))
    return false;
  const HaloGradientCall call = callOf(problem, precision);
  const Variant& variant = choose(gather);
  int64_t blocks;
  return variant.sharedBytes(call, precision) <= mostSharedBytes &&
         !__builtin_mul_overflow(variant.blocks(gather), slabsOf(call), &blocks) && blocks < int64_t{1} << 31;
}

const char* haloWeightGradientName(const Conv3dProblem& problem, Precision precision) {
  return choose(gatherOf(problem, false)).names[precision];
}

size_t haloWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision) {
  const HaloGradientCall call = callOf(problem, precision);
  return slabsOf(call) == 1 ? 0 : static_cast<size_t>(slabsOf(call) * weightsOf(call.gather)) * sizeof(float);
}

void runHaloWeightGradient(const GradientOperands& operands, const SourceNorm& norm) {
  const Precision precision = operands.precision;
  HaloGradientCall call = callOf(operands.problem, precision);
  const int64_t slabs = slabsOf(call);
  call.x = operands.x;
  call.dy = operands.dy;
  call.norm = norm;
  call.partial = slabs == 1 ? operands.dw : static_cast<float*>(operands.workspace);
  const Variant& variant = choose(call.gather);
  variant.run[precision](variant.names[precision], variant, call,
                         static_cast<unsigned>(slabs * variant.blocks(call.gather)));
  if (slabs > 1) addSlabs(call.partial, slabs, weightsOf(call.gather), operands.dw);
}

}  // namespace voxgrad::cuda
