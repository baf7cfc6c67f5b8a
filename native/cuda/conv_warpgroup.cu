#include "conv_box.h"
#include "conv_warpgroup.h"
#include "tensor_map.h"
#include "warpgroup_ring.h"

namespace voxgrad::cuda {
namespace {

constexpr int consumers = 2;
// Numbers of the depth in a tile.
template <Precision P>
constexpr int numbersOfTile = swizzleBytes / static_cast<int>(sizeof(Element<P>));

// Each consumer computes DOWN times 64 rows by COLUMNS. STAGES tiles are under way, and TOGETHER blocks share
// a multiprocessor.
template <int DOWN, int COLUMNS, int STAGES, int TOGETHER>
struct WarpgroupTile
    : RingTile<consumers, (consumers * DOWN * productRows + COLUMNS) * swizzleBytes, STAGES> {
  static constexpr int down = DOWN, columns = COLUMNS, together = TOGETHER;
  static constexpr int rows = consumers * DOWN * productRows;
  static constexpr int rowBytes = rows * swizzleBytes, columnBytes = COLUMNS * swizzleBytes;
};

// Which tiles of the depth a block multiplies.
struct Depth {
  int first, steps;

  __device__ Depth(const Box& box, int chunks, int part, int parts) {
    const int all = box.taps[0] * box.taps[1] * box.taps[2] * chunks, most = (all + parts - 1) / parts;
    first = part * most;
    steps = all - first < most ? all - first : most;
  }
};

// Has tiles copied, of one tap after the other.
template <class Tile, Precision P>
__device__ void produce(Ring<Tile>& ring, const TensorMap& source, const TensorMap& weights,
                        const Gather& gather, const Box& box, int voxels, int column, int chunks,
                        const Depth& depth) {
  const int radix[3] = {box.taps[1], box.taps[2], chunks};
  Digits at = Digits::of(depth.first, radix);
  const Digits one{0, {0, 0, 1}};
  for (int step = 0; step < depth.steps; step++) {
    const int tap[3] = {box.firstTap[0] + static_cast<int>(at.lead), box.firstTap[1] + at.digit[0],
                        box.firstTap[2] + at.digit[1]};
    const int channel = at.digit[2] * numbersOfTile<P>;
    const int index = (tap[0] * gather.axis[1].taps + tap[1]) * gather.axis[2].taps + tap[2];
    ring.produce(voxels * swizzleBytes + Tile::columnBytes, [&](unsigned char* tile, uint64_t* barrier) {
      copyBox(tile, source,
              {channel, box.sourceOf(gather, 2, tap[2]), box.sourceOf(gather, 1, tap[1]),
               box.sourceOf(gather, 0, tap[0]), box.first[0]},
              barrier);
      copyBox(tile + Tile::rowBytes, weights, {channel, index, column}, barrier);
    });
    at.add(one, radix);
  }
}

template <class Tile, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    convWarpgroupKernel(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap weights,
                        GatherCall call, BoxPlan plan, int columnBlocks, int parts) {
  const Gather& gather = call.gather;
  // Blocks that read the same part of the source follow each other.
  int64_t index = blockIdx.x;
  const int column = static_cast<int>(index % columnBlocks) * Tile::columns;
  index /= columnBlocks;
  const int part = static_cast<int>(index % parts);
  const Box box(gather, plan, index / parts);
  const int chunks = (gather.depth + numbersOfTile<P> - 1) / numbersOfTile<P>;
  const Depth depth(box, chunks, part, parts);

  Ring<Tile> ring;
  if (threadIdx.x == 0) ring.make();
  __syncthreads();
  const int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  if (warp == Tile::consumerWarps) {
    if (lane == 0 && depth.steps > 0)
      produce<Tile, P>(ring, source, weights, gather, box, plan.voxels(), column, chunks, depth);
    return;
  }

  float sums[Tile::down][Tile::columns / 2] = {};
  const int row = threadIdx.x / warpgroupThreads * Tile::down * productRows;
  ring.consume(depth.steps, sums, [&](const unsigned char* tile) {
    UNROLL for (int k = 0; k < swizzleBytes; k += productBytes) {
      const uint64_t b = operandAt(tile + Tile::rowBytes, k);
      UNROLL for (int i = 0; i < Tile::down; i++) {
        const uint64_t a = operandAt(tile + (row + i * productRows) * swizzleBytes, k);
        if constexpr (P == Precision::bf16)
          multiplyBf16<Tile::columns>(sums[i], a, b);
        else
          multiplyTf32<Tile::columns>(sums[i], a, b);
      }
    }
  });
  UNROLL for (int i = 0; i < Tile::down; i++) UNROLL for (int half = 0; half < 2; half++) {
    int64_t voxel = box.voxelOf(gather, plan, row + i * productRows + warp % 4 * 16 + half * 8 + lane / 4);
    if (voxel < 0) continue;
    voxel += part * gather.outputVoxels();
    UNROLL for (int j = 0; j < Tile::columns / 8; j++) call.store<P>(
        0, voxel, column + j * 8 + lane % 4 * 2, sums[i][j * 4 + half * 2], sums[i][j * 4 + half * 2 + 1]);
  }
}

struct Variant {
  int rows, columns;
  Names names;
  ByPrecision<void (*)(const char* name, const GatherCall& call, int parts)> run;

  int columnBlocks(const Gather& gather) const { return static_cast<int>(divideUp(gather.columns, columns)); }
};

// Innermost axis first.
BoxedTensor boxedSource(const Gather& gather, const BoxPlan& plan, int elementBytes) {
  const GatherAxis(&axis)[3] = gather.axis;
  return {elementBytes,
          5,
          {gather.depth, axis[2].source, axis[1].source, axis[0].source, gather.batch},
          {swizzleBytes / elementBytes, plan.box[3], plan.box[2], plan.box[1], plan.box[0]}};
}

BoxedTensor boxedWeights(const Gather& gather, int columns, int elementBytes) {
  return {elementBytes,
          3,
          {gather.depth, gather.taps(), gather.columns},
          {swizzleBytes / elementBytes, 1, columns}};
}

template <class Tile, Precision P>
void runVariant(const char* name, const GatherCall& call, int parts) {
  constexpr int bytes = sizeof(Element<P>);
  const Gather& gather = call.gather;
  const BoxPlan plan = boxPlanOf(gather, Tile::rows);
  const auto columnBlocks = static_cast<int>(divideUp(gather.columns, Tile::columns));
  launch(name, convWarpgroupKernel<Tile, P>,
         Grid{static_cast<unsigned>(plan.count() * columnBlocks * parts), Tile::threads, Tile::sharedBytes},
         tensorMapOf(boxedSource(gather, plan, bytes), call.source),
         tensorMapOf(boxedWeights(gather, Tile::columns, bytes), call.weights), call, plan, columnBlocks,
         parts);
}

template <class Tile>
constexpr Variant variantOf(const char* tf32, const char* bf16) {
  return {Tile::rows,
          Tile::columns,
          {{nullptr, tf32, bf16}},
          {{nullptr, runVariant<Tile, Precision::tf32>, runVariant<Tile, Precision::bf16>}}};
}

// The larger first: they read less for every product.
const Variant variants[] = {
    variantOf<WarpgroupTile<1, 256, 4, 1>>("warpgroups 128x256, tf32", "warpgroups 128x256, bf16"),
    variantOf<WarpgroupTile<2, 128, 4, 1>>("warpgroups 256x128, tf32", "warpgroups 256x128, bf16"),
    variantOf<WarpgroupTile<2, 64, 5, 1>>("warpgroups 256x64, tf32", "warpgroups 256x64, bf16"),
    variantOf<WarpgroupTile<1, 128, 3, 2>>("warpgroups 128x128, tf32", "warpgroups 128x128, bf16"),
    variantOf<WarpgroupTile<1, 64, 4, 2>>("warpgroups 128x64, tf32", "warpgroups 128x64, bf16"),
};
constexpr int variantCount = sizeof variants / sizeof *variants, smallest = variantCount - 1;

}  // namespace

bool warpgroupsTake(const Gather& gather, Precision precision) {
  if (precision == Precision::f32 || gather.groups != 1 || !hasWarpgroups()) return false;
  for (const GatherAxis& axis : gather.axis)
    if (axis.stride != 1) return false;
  // Tiles would be mostly empty.
  const Variant& least = variants[smallest];
  if (gather.depth <= 32 || gather.columns <= least.columns / 2) return false;
  const int bytes = precision == Precision::bf16 ? sizeof(Bf16) : sizeof(float);
  return isBoxable(boxedSource(gather, boxPlanOf(gather, least.rows), bytes)) &&
         isBoxable(boxedWeights(gather, least.columns, bytes)) &&
         warpgroupBlocks(gather, smallest) < int64_t{1} << 26;
}

int warpgroupTile(const Gather& gather) {
  for (const int tile : warpgroupTiles(gather))
    if (warpgroupBlocks(gather, tile) >= 132) return tile;
  return smallest;
}

std::vector<int> warpgroupTiles(const Gather& gather) {
  std::vector<int> tiles;
  for (int tile = 0; tile < variantCount; tile++)
    if (variants[tile].columns < 2 * gather.columns) tiles.push_back(tile);
  return tiles;
}

const char* warpgroupName(int tile, Precision precision) { return variants[tile].names[precision]; }

int64_t warpgroupBlocks(const Gather& gather, int tile) {
  const Variant& variant = variants[tile];
  return boxPlanOf(gather, variant.rows).count() * variant.columnBlocks(gather);
}

int64_t warpgroupRows(const Gather& gather, int tile) {
  return boxPlanOf(gather, variants[tile].rows).count() * variants[tile].rows;
}

void runWarpgroups(const GatherCall& call, int tile, int parts) {
  const Variant& variant = variants[tile];
  variant.run[call.precision](variant.names[call.precision], call, parts);
}

}  // namespace voxgrad::cuda
