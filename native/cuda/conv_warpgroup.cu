#include "conv_sums.h"
#include "conv_warpgroup.h"
#include "warpgroup_product.h"

namespace voxgrad::cuda {
namespace {

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    convWarpgroupKernel(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap weights,
                        GatherCall call, BoxPlan plan, int columnBlocks, int parts) {
  const Gather& gather = call.gather;
  Ring<Tile> ring;
  auto& state = *static_cast<BoxState*>(ring.behind());
  if (threadIdx.x == 0) {
    ring.make();
    // Blocks that read the same part of the source follow each other.
    const int column = static_cast<int>(blockIdx.x % columnBlocks) * Tile::columns;
    const int part = static_cast<int>(blockIdx.x / columnBlocks % parts);
    const int64_t number = blockIdx.x / columnBlocks / parts;
    const Box box(gather, plan, number);
    const TapRange range(box, (gather.depth + numbersOfTile<P> - 1) / numbersOfTile<P>, part, parts);
    state = {box, range, number, column, part};
  }
  __syncthreads();
  const bool produces = threadIdx.x / warpSize == Tile::consumerWarps;
  WarpgroupSums<Tile> sums = {};
  if (produces) {
    if (threadIdx.x % warpSize == 0 && state.range.steps > 0)
      produceTaps<Tile, P>(ring, source, 0, weights, state.column, gather, state.box, state.range,
                           plan.voxels());
    __syncwarp();
  } else {
    multiplyTiles<Tile, P>(ring, state.range.steps, sums);
    storeSums<Tile>(
        sums,
        [&](int row) {
          const int64_t voxel = state.box.voxelOf(gather, plan, row);
          return voxel < 0 ? voxel : voxel + state.part * gather.outputVoxels();
        },
        [&](int64_t voxel, int at, float left, float right) {
          call.store<P>(0, voxel, state.column + at, left, right);
        });
  }
  if (call.sums == nullptr) return;
  auto& shared = *reinterpret_cast<BlockSums<Tile::columns, Tile::consumerWarps>*>(ring.tiles);
  sumFragments<P>(call, WarpgroupFragments<Tile>{sums}, !produces, shared, 0, state.column, state.number,
                  [&](int row) { return state.box.voxelOf(gather, plan, row) >= 0; });
}

int64_t boxesOf(const Gather& gather, int rows) { return boxPlanOf(gather, rows).count() * gather.classes(); }

using Variant = WarpgroupVariant<void (*)(const char* name, const GatherCall& call, int parts)>;

template <class Tile, Precision P>
void runVariant(const char* name, const GatherCall& call, int parts) {
  constexpr int bytes = sizeof(Element<P>);
  const Gather& gather = call.gather;
  const BoxPlan plan = boxPlanOf(gather, Tile::rows);
  const auto columnBlocks = static_cast<int>(divideUp(gather.columns, Tile::columns));
  launch(name, convWarpgroupKernel<Tile, P>,
         Grid{static_cast<unsigned>(plan.count() * gather.classes() * columnBlocks * parts), Tile::threads,
              Tile::sharedBytes},
         tensorMapOf(boxedSource(gather, gather.depth, plan, bytes), call.source),
         tensorMapOf(boxedWeights(gather, Tile::columns, bytes), call.weights), call, plan, columnBlocks,
         parts);
}

template <class Tile>
constexpr Variant variantOf(const char* tf32, const char* bf16) {
  return warpgroupVariant<Tile>(tf32, runVariant<Tile, Precision::tf32>, bf16,
                                runVariant<Tile, Precision::bf16>);
}

// The larger first: they read less for every product.
const Variant variants[] = {
    variantOf<WarpgroupTile<1, 256, 4, 1>>("warpgroups 128x256, tf32", "warpgroups 128x256, bf16"),
    variantOf<WarpgroupTile<2, 128, 4, 1>>("warpgroups 256x128, tf32", "warpgroups 256x128, bf16"),
    variantOf<WarpgroupTile<2, 64, 5, 1>>("warpgroups 256x64, tf32", "warpgroups 256x64, bf16"),
    variantOf<WarpgroupTile<1, 128, 3, 2>>("warpgroups 128x128, tf32", "warpgroups 128x128, bf16"),
    variantOf<WarpgroupTile<1, 64, 4, 2>>("warpgroups 128x64, tf32", "warpgroups 128x64, bf16"),
};
constexpr int smallest = sizeof variants / sizeof *variants - 1;

}  // namespace

bool warpgroupsTake(const Gather& gather, Precision precision) {
  if (precision == Precision::f32 || gather.groups != 1 || !hasWarpgroups()) return false;
  // Tiles would be mostly empty.
  const Variant& least = variants[smallest];
  if (gather.depth <= 32 || gather.columns <= least.columns / 2) return false;
  const int bytes = precision == Precision::bf16 ? sizeof(Bf16) : sizeof(float);
  return isBoxable(boxedSource(gather, gather.depth, boxPlanOf(gather, least.rows), bytes)) &&
         isBoxable(boxedWeights(gather, least.columns, bytes)) &&
         warpgroupBlocks(gather, smallest) < int64_t{1} << 26;
}

int warpgroupTile(const Gather& gather) {
  return largestTile(warpgroupTiles(gather), [&](int tile) { return warpgroupBlocks(gather, tile); });
}

std::vector<int> warpgroupTiles(const Gather& gather) { return tilesFor(variants, gather.columns); }

const char* warpgroupName(int tile, Precision precision) { return variants[tile].names[precision]; }

int64_t warpgroupBlocks(const Gather& gather, int tile) {
  const Variant& variant = variants[tile];
  return boxesOf(gather, variant.rows) * divideUp(gather.columns, variant.columns);
}

int64_t warpgroupChunks(const Gather& gather, int tile) { return boxesOf(gather, variants[tile].rows); }

int64_t warpgroupRows(const Gather& gather, int tile) {
  return boxesOf(gather, variants[tile].rows) * variants[tile].rows;
}

void runWarpgroups(const GatherCall& call, int tile, int parts) {
  const Variant& variant = variants[tile];
  variant.run[call.precision](variant.names[call.precision], call, parts);
}

}  // namespace voxgrad::cuda
