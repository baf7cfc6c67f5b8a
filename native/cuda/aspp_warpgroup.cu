#include "aspp_warpgroup.h"
#include "warpgroup_product.h"

namespace voxgrad::cuda {
namespace {

struct WeightMaps {
  TensorMap of[mostBranches];
};

// A branch as a convolution of its own.
__host__ __device__ Gather gatherOf(const AsppCall& call, int branch) {
  const AsppCall::Branch& own = call.branch[branch];
  const auto axis = [&](int i) {
    return GatherAxis{call.extent[i], call.extent[i], own.kernel[i], 1, own.kernel[i] / 2 * own.dilation[i],
                      own.dilation[i]};
  };
  return {call.transposed,
          call.voxels / (int64_t{call.extent[0]} * call.extent[1] * call.extent[2]),
          {axis(0), axis(1), axis(2)},
          1,
          call.depth,
          call.columns};
}

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    asppWarpgroupKernel(const __grid_constant__ TensorMap source, const __grid_constant__ WeightMaps weights,
                        AsppCall call, BoxPlan plan, int columnBlocks) {
  // Blocks that read the same part of the source follow each other.
  int64_t index = blockIdx.x;
  const int column = static_cast<int>(index % columnBlocks) * Tile::columns;
  index /= columnBlocks;
  const int results = call.transposed ? 1 : call.branches;
  const int result = static_cast<int>(index % results);
  index /= results;
  const int branch = call.transposed ? 0 : result, end = call.transposed ? call.branches : result + 1;
  const int chunks = (call.depth + numbersOfTile<P> - 1) / numbersOfTile<P>;

  Ring<Tile> ring;
  auto& state = *static_cast<BoxState*>(ring.behind());
  if (threadIdx.x == 0) {
    ring.make();
    // Boxes of all branches have the same voxels; a sum takes the taps of all of its branches.
    const Box box(gatherOf(call, branch), plan, index);
    state = {box, {box, chunks}, index, column, result};
    for (int i = branch + 1; i < end; i++)
      state.range.steps += TapRange(Box(gatherOf(call, i), plan, index), chunks).steps;
  }
  __syncthreads();
  if (threadIdx.x / warpSize == Tile::consumerWarps) {
    if (threadIdx.x % warpSize > 0) return;
    for (int i = branch; i < end; i++) {
      const Gather gather = gatherOf(call, i);
      const Box box(gather, plan, index);
      const TapRange range(box, chunks);
      if (range.steps > 0)
        produceTaps<Tile, P>(ring, source, call.transposed ? i * call.depth : 0, weights.of[i], column,
                             gather, box, range, plan.voxels());
    }
    return;
  }

  WarpgroupSums<Tile> sums = {};
  multiplyTiles<Tile, P>(ring, state.range.steps, sums);
  const Gather gather = gatherOf(call, branch);
  const int64_t pitch = call.outputPitch(), first = int64_t{result} * call.columns;
  storeSums<Tile>(
      sums, [&](int row) { return state.box.voxelOf(gather, plan, row); },
      [&](int64_t voxel, int at, float left, float right) {
        if (column + at >= call.columns) return;
        storePair<P>(call.output, call.narrow, voxel * pitch + first + column + at,
                     column + at + 1 < call.columns, left, right);
      });
}

using Variant = WarpgroupVariant<void (*)(const char* name, const AsppCall& call)>;

int64_t boxesOf(const AsppCall& call, int rows) { return boxPlanOf(gatherOf(call, 0), rows).count(); }

int64_t blocksOf(const AsppCall& call, int rows, int columns) {
  const int64_t columnBlocks = divideUp(call.columns, columns);
  return boxesOf(call, rows) * columnBlocks * (call.transposed ? 1 : call.branches);
}

BoxedTensor sourceOf(const AsppCall& call, const BoxPlan& plan, int elementBytes) {
  return boxedSource(gatherOf(call, 0), call.sourcePitch(), plan, elementBytes);
}

template <class Tile, Precision P>
void runVariant(const char* name, const AsppCall& call) {
  constexpr int bytes = sizeof(Element<P>);
  const BoxPlan plan = boxPlanOf(gatherOf(call, 0), Tile::rows);
  WeightMaps maps;
  for (int i = 0; i < call.branches; i++)
    maps.of[i] = tensorMapOf(boxedWeights(gatherOf(call, i), Tile::columns, bytes), call.branch[i].weights);
  launch(name, asppWarpgroupKernel<Tile, P>,
         Grid{static_cast<unsigned>(blocksOf(call, Tile::rows, Tile::columns)), Tile::threads,
              Tile::sharedBytes},
         tensorMapOf(sourceOf(call, plan, bytes), call.source), maps, call, plan,
         static_cast<int>(divideUp(call.columns, Tile::columns)));
}

template <class Tile>
constexpr Variant variantOf(const char* tf32, const char* bf16) {
  return warpgroupVariant<Tile>(tf32, runVariant<Tile, Precision::tf32>, bf16,
                                runVariant<Tile, Precision::bf16>);
}

// The larger first: they read less for every product.
const Variant variants[] = {
    variantOf<WarpgroupTile<1, 256, 4, 1>>("joined warpgroups 128x256, tf32",
                                           "joined warpgroups 128x256, bf16"),
    variantOf<WarpgroupTile<1, 128, 3, 2>>("joined warpgroups 128x128, tf32",
                                           "joined warpgroups 128x128, bf16"),
    variantOf<WarpgroupTile<1, 64, 4, 2>>("joined warpgroups 128x64, tf32", "joined warpgroups 128x64, bf16"),
};
constexpr int smallest = sizeof variants / sizeof *variants - 1;

}  // namespace

bool asppWarpgroupsTake(const AsppCall& call) {
  if (call.precision == Precision::f32 || !hasWarpgroups()) return false;
  // Tiles would be mostly empty.
  const Variant& least = variants[smallest];
  if (call.depth <= 32 || call.columns <= least.columns / 2) return false;
  const int bytes = call.precision == Precision::bf16 ? sizeof(Bf16) : sizeof(float);
  // The tile behind a branch's last channels must not hold those of the next one.
  if (call.transposed && call.branches > 1 && call.depth * int64_t{bytes} % swizzleBytes != 0) return false;
  bool boxable = isBoxable(sourceOf(call, boxPlanOf(gatherOf(call, 0), least.rows), bytes));
  for (int i = 0; i < call.branches; i++)
    boxable = boxable && isBoxable(boxedWeights(gatherOf(call, i), least.columns, bytes));
  return boxable && boxesOf(call, least.rows) < int64_t{1} << 20 &&
         blocksOf(call, least.rows, least.columns) < int64_t{1} << 26;
}

bool suitsAsppWarpgroups(const AsppCall& call) {
  if (call.depth < 64 || call.columns < 64 || !asppWarpgroupsTake(call)) return false;
  const int rows = variants[asppWarpgroupTile(call)].rows;
  return 5 * call.voxels >= 3 * boxesOf(call, rows) * rows;
}

int asppWarpgroupTile(const AsppCall& call) {
  return largestTile(asppWarpgroupTiles(call),
                     [&](int tile) { return blocksOf(call, variants[tile].rows, variants[tile].columns); });
}

std::vector<int> asppWarpgroupTiles(const AsppCall& call) { return tilesFor(variants, call.columns); }

const char* asppWarpgroupName(int tile, Precision precision) { return variants[tile].names[precision]; }

void runAsppWarpgroups(const AsppCall& call, int tile) {
  const Variant& variant = variants[tile];
  variant.run[call.precision](variant.names[call.precision], call);
}

}  // namespace voxgrad::cuda
