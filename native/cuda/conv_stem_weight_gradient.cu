#include <algorithm>

#include "conv_slabs.h"
#include "conv_stem.h"
#include "conv_stem_plan.h"
#include "conv_tile.h"

namespace voxgrad::cuda {
namespace {

// A block computes the gradients of 16 filters for all taps, of which each of its warps has WARP_COLUMNS.
template <int WARP_COLUMNS, int WARPS>
struct StemGradientTile {
  static constexpr int rows = 16, warpColumns = WARP_COLUMNS;
  static constexpr int columns = WARPS * WARP_COLUMNS, threads = WARPS * warpSize;
  // Elements of dy from one voxel to the next: four voxels of eight filters lie in different banks.
  static constexpr int pitch = rows + 8;
};

struct StemGradientCall {
  Gather gather;  // of the forward pass
  StemPlan plan;
  int64_t blocks, slab;  // of voxels, and how many of them are added up together
  const void *x, *dy;
  float* partial;  // [slabs, dw]
};

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads)
    stemWeightGradientKernel(StemGradientCall call, int rowBlocks) {
  const Gather& gather = call.gather;
  const StemPlan& plan = call.plan;
  using T = Element<P>;
  T* dy = sharedMemory<T>();
  T* map = dy + voxelsOfBlock * Tile::pitch;
  const int firstRow = static_cast<int>(blockIdx.x % rowBlocks) * Tile::rows;
  const int64_t slab = blockIdx.x / rowBlocks, begin = slab * call.slab;
  const int64_t end = begin + call.slab < call.blocks ? begin + call.slab : call.blocks;

  const int warpColumn = static_cast<int>(threadIdx.x) / warpSize * Tile::warpColumns;
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int taps = static_cast<int>(gather.taps());
  // Where the tap of each column that the lane reads is in the map of a block's voxel 0, and of the words of
  // the lane.
  int offsets[Tile::warpColumns / 8];
  UNROLL for (int j = 0; j < Tile::warpColumns / 8; j++) {
    const int column = warpColumn + j * 8 + lane / 4;
    const int kernel[3] = {gather.axis[0].taps, gather.axis[1].taps, gather.axis[2].taps};
    const Digits tap = Digits::of(column < taps ? column : 0, kernel);
    const int line =
        tap.digit[0] * gather.axis[0].dilation * plan.halo[1] + tap.digit[1] * gather.axis[1].dilation;
    offsets[j] = line * plan.line() + tap.digit[2] % plan.phases * plan.pitch +
                 alignedAt<P>(plan, tap.digit[2] / plan.phases) + lane % 4 * elementsOfWord<P>;
  }

  WarpProduct<Tile::rows, Tile::warpColumns, P> product;
  for (int64_t each = begin; each < end; each++) {
    const Digits block = Digits::of(each, plan.blocks);
    const int first[3] = {block.digit[0] * plan.block[0], block.digit[1] * plan.block[1],
                          block.digit[2] * plan.block[2]};
    __syncthreads();
    loadOutputGradient<Tile>(gather, plan.block, static_cast<const T*>(call.dy), 0, firstRow, block.lead,
                             first, dy);
    loadMap<Tile::threads>(gather, plan, static_cast<const T*>(call.x), block.lead, first, map);
    commitCopies();
    waitCopies<0>();
    __syncthreads();
    if (warpColumn >= taps) continue;
    for (int voxel = 0; voxel < voxelsOfBlock; voxel += tileDepth<P>) {
      const RowsByDepth<P> a(dy + voxel * Tile::pitch, Tile::pitch);
      const T* lines[tileDepth<P> / voxelsOfLine];
      UNROLL for (int i = 0; i < tileDepth<P> / voxelsOfLine; i++) {
        const int line = voxel / voxelsOfLine + i;
        const int z = line / plan.block[1] * gather.axis[0].stride;
        const int y = line % plan.block[1] * gather.axis[1].stride;
        lines[i] = map + (z * plan.halo[1] + y) * plan.line();
      }
      product.add([&](int row, int k, uint32_t(&into)[4]) { a.load(row, k, Tile::pitch, into); },
                  [&](int column, int k, uint32_t(&into)[4]) {
                    const T* line = lines[k / voxelsOfLine] + k % voxelsOfLine;
                    UNROLL for (int i = 0; i < 4; i++) into[i] =
                        wordAt(line + offsets[column / 8 + i / 2] + i % 2 * 4 * elementsOfWord<P>);
                  });
    }
  }

  product.forEachPair([&](int row, int column, float left, float right) {
    const int filter = firstRow + row, tap = warpColumn + column;
    if (filter >= gather.columns || tap >= taps) return;
    float* to = call.partial + (slab * gather.columns + filter) * taps + tap;
    to[0] = left;
    if (tap + 1 < taps) to[1] = right;
  });
}

struct Variant {
  int rows, columns, tileElements;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const StemGradientCall& call,
                       unsigned blocks)>
      run;

  int rowBlocks(const Gather& gather) const { return static_cast<int>(divideUp(gather.columns, rows)); }
  size_t sharedBytes(const StemPlan& plan, Precision precision) const {
    const int element = 16 / chunkOfPrecision(precision);
    return static_cast<size_t>((tileElements + elementsOf(plan)) * element);
  }
};

template <class Tile, Precision P>
void runVariant(const char* name, const Variant& variant, const StemGradientCall& call, unsigned blocks) {
  launch(name, stemWeightGradientKernel<Tile, P>,
         Grid{blocks, Tile::threads, variant.sharedBytes(call.plan, P)}, call,
         variant.rowBlocks(call.gather));
}

template <int WARP_COLUMNS, int WARPS>
constexpr Variant variantOf(const Names& names) {
  using Tile = StemGradientTile<WARP_COLUMNS, WARPS>;
  return {Tile::rows,
          Tile::columns,
          voxelsOfBlock * Tile::pitch,
          names,
          {{runVariant<Tile, Precision::f32>, runVariant<Tile, Precision::tf32>,
            runVariant<Tile, Precision::bf16>}}};
}

const Variant few = variantOf<16, 2>(
    {{"stem over voxels 16x32, tf32x3", "stem over voxels 16x32, tf32", "stem over voxels 16x32, bf16"}});
const Variant some = variantOf<16, 4>(
    {{"stem over voxels 16x64, tf32x3", "stem over voxels 16x64, tf32", "stem over voxels 16x64, bf16"}});
const Variant many = variantOf<64, 6>(
    {{"stem over voxels 16x384, tf32x3", "stem over voxels 16x384, tf32", "stem over voxels 16x384, bf16"}});

const Variant& choose(const Gather& gather) {
  return gather.taps() <= few.columns ? few : gather.taps() <= some.columns ? some : many;
}

StemGradientCall callOf(const Conv3dProblem& problem, Precision precision) {
  StemGradientCall call{};
  call.gather = gatherOf(problem, false);
  call.plan = stemPlanOf(call.gather, precision, call.gather.axis[2].stride, call.gather.axis[2].taps);
  call.blocks = call.gather.batch * call.plan.blocks[0] * call.plan.blocks[1] * call.plan.blocks[2];
  // By the problem alone, so that sums have the same order everywhere; few enough voxels for float32.
  const int64_t most = 65536 / voxelsOfBlock;
  const int64_t wanted = divideUp(mostBlocks / 4, choose(call.gather).rowBlocks(call.gather));
  call.slab = std::min(most, divideUp(call.blocks, wanted));
  return call;
}

int64_t slabsOf(const StemGradientCall& call) { return divideUp(call.blocks, call.slab); }

int64_t weightsOf(const Gather& gather) { return gather.columns * gather.taps(); }

}  // namespace

bool suitsStemWeightGradient(const Conv3dProblem& problem, Precision precision) {
  const Gather gather = gatherOf(problem, false);
  if (!isStem(gather) || gather.columns % chunkOfPrecision(precision) != 0 || gather.taps() > many.columns)
    return false;
  const StemGradientCall call = callOf(problem, precision);
  const Variant& variant = choose(gather);
  int64_t blocks;
  return variant.sharedBytes(call.plan, precision) <= mostSharedBytes &&
         !__builtin_mul_overflow(slabsOf(call), variant.rowBlocks(gather), &blocks) &&
         blocks < int64_t{1} << 31;
}

const char* stemWeightGradientName(const Conv3dProblem& problem, Precision precision) {
  return choose(gatherOf(problem, false)).names[precision];
}

size_t stemWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision) {
  const StemGradientCall call = callOf(problem, precision);
  return slabsOf(call) == 1 ? 0 : static_cast<size_t>(slabsOf(call) * weightsOf(call.gather)) * sizeof(float);
}

void runStemWeightGradient(const GradientOperands& operands) {
  const Precision precision = operands.precision;
  StemGradientCall call = callOf(operands.problem, precision);
  const int64_t slabs = slabsOf(call);
  call.x = operands.x;
  call.dy = operands.dy;
  call.partial = slabs == 1 ? operands.dw : static_cast<float*>(operands.workspace);
  const Variant& variant = choose(call.gather);
  variant.run[precision](variant.names[precision], variant, call,
                         static_cast<unsigned>(slabs * variant.rowBlocks(call.gather)));
  if (slabs > 1) addSlabs(call.partial, slabs, weightsOf(call.gather), operands.dw);
}

}  // namespace voxgrad::cuda
