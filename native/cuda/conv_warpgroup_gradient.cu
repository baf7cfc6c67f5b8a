#include <algorithm>

#include "conv_box.h"
#include "conv_slabs.h"
#include "conv_warpgroup_gradient.h"
#include "tensor_map.h"
#include "warpgroup_ring.h"

namespace voxgrad::cuda {
namespace {

constexpr int voxelsOfTile = 64, voxelsOfProduct = 16;
constexpr int channelsOfUnit = swizzleBytes / 2;
// Of a tile: 64 channels of all its voxels.
constexpr int columnBytes = voxelsOfTile * swizzleBytes;

// Columns of the product are tap by tap, 64 channels at a time. DOWN consumers have 64 filters each, ACROSS
// of them COLUMNS of the columns each.
template <int DOWN, int ACROSS, int COLUMNS, int STAGES, int TOGETHER>
struct GradientTile
    : RingTile<DOWN * ACROSS, (DOWN + ACROSS * COLUMNS / channelsOfUnit) * columnBytes, STAGES> {
  static constexpr int down = DOWN, across = ACROSS, columns = COLUMNS, together = TOGETHER;
  static constexpr int filters = DOWN * productRows, units = ACROSS * COLUMNS / channelsOfUnit;
};

struct GradientCall {
  Gather gather;
  BoxPlan plan;
  int chunks;  // of 64 channels of x
  int unitBlocks, filterBlocks, parts;
  float* partial;  // [parts, dw]

  __host__ __device__ int units() const { return static_cast<int>(gather.taps()) * chunks; }
};

// 64 columns: the tap's shift, and the first channel.
struct Unit {
  int tap, channel, shift[3];

  __device__ __forceinline__ Unit(const GradientCall& call, int unit)
      : tap(unit / call.chunks), channel(unit % call.chunks * channelsOfUnit) {
    const GatherAxis(&axis)[3] = call.gather.axis;
    for (int i = 2, rest = tap; i >= 0; i--) {
      shift[i] = rest % axis[i].taps * axis[i].dilation - axis[i].pad;
      rest /= axis[i].taps;
    }
  }
};

// The boxes from which a tap of some columns reaches x, and the part of them that a block adds up.
struct Boxes {
  int first[4], count[4];
  int begin, steps;

  __device__ Boxes(const GradientCall& call, int firstUnit, int lastUnit, int part) {
    first[0] = 0;
    count[0] = call.plan.blocks[0];
    int end[3] = {0, 0, 0};
    for (int i = 0; i < 3; i++) first[i + 1] = call.plan.blocks[i + 1];
    for (int each = firstUnit; each < lastUnit; each++) {
      const Unit unit(call, each);
      for (int i = 0; i < 3; i++) {
        const GatherAxis& axis = call.gather.axis[i];
        const int size = call.plan.box[i + 1], blocks = call.plan.blocks[i + 1], shift = unit.shift[i];
        const int reach = axis.source - shift,
                  outside = shift < 0 ? (axis.stride - 1 - shift) / axis.stride : 0;
        const int from = outside / size, to = reach > 0 ? (reach - 1) / (size * axis.stride) + 1 : 0;
        if (from < first[i + 1]) first[i + 1] = from;
        const int last = to < blocks ? to : blocks;
        if (last > end[i]) end[i] = last;
      }
    }
    int all = count[0];
    for (int i = 0; i < 3; i++) {
      count[i + 1] = end[i] > first[i + 1] ? end[i] - first[i + 1] : 0;
      all *= count[i + 1];
    }
    const int most = (all + call.parts - 1) / call.parts;
    begin = part * most;
    steps = all - begin < most ? all - begin : most;
  }
};

// A box may have fewer voxels than a tile: zeros stand for those behind.
template <class Tile>
__device__ void clearTails(unsigned char* tiles, int voxels) {
  const int tail = (voxelsOfTile - voxels) * swizzleBytes / 16;
  for (int i = threadIdx.x; i < Tile::stages * Tile::stageBytes / columnBytes * tail; i += Tile::threads)
    reinterpret_cast<uint4*>(tiles + i / tail * columnBytes + voxels * swizzleBytes)[i % tail] = uint4{};
  publish();
}

template <class Tile>
__device__ void produce(Ring<Tile>& ring, const TensorMap& x, const TensorMap& dy, const GradientCall& call,
                        const Boxes& boxes, int filter, int firstUnit) {
  const int(&box)[4] = call.plan.box;
  const GatherAxis(&axis)[3] = call.gather.axis;
  const int radix[3] = {boxes.count[1], boxes.count[2], boxes.count[3]};
  Digits at = Digits::of(boxes.begin, radix);
  const Digits one{0, {0, 0, 1}};
  const int left = call.units() - firstUnit, units = left < Tile::units ? left : Tile::units;
  const int bytes = (Tile::down + units) * call.plan.voxels() * swizzleBytes;
  int shift[Tile::units][3], channel[Tile::units];
  UNROLL for (int i = 0; i < Tile::units; i++) {
    const Unit unit(call, firstUnit + i);
    channel[i] = unit.channel;
    UNROLL for (int k = 0; k < 3; k++) shift[i][k] = unit.shift[k];
  }
  for (int step = 0; step < boxes.steps; step++) {
    const int place[4] = {static_cast<int>(at.lead) * box[0], (boxes.first[1] + at.digit[0]) * box[1],
                          (boxes.first[2] + at.digit[1]) * box[2], (boxes.first[3] + at.digit[2]) * box[3]};
    ring.produce(bytes, [&](unsigned char* tile, uint64_t* barrier) {
      UNROLL for (int i = 0; i < Tile::down; i++)
          copyBox(tile + i * columnBytes, dy,
                  {filter + i * productRows, place[3], place[2], place[1], place[0]}, barrier);
      UNROLL for (int i = 0; i < Tile::units; i++) if (i < units) copyBox(
          tile + (Tile::down + i) * columnBytes, x,
          {channel[i], place[3] * axis[2].stride + shift[i][2], place[2] * axis[1].stride + shift[i][1],
           place[1] * axis[0].stride + shift[i][0], place[0]},
          barrier);
    });
    at.add(one, radix);
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::together)
    weightGradientWarpgroupKernel(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap dy,
                                  GradientCall call) {
  const Gather& gather = call.gather;
  // Blocks that read the same voxels follow each other.
  int64_t index = blockIdx.x;
  const int firstUnit = static_cast<int>(index % call.unitBlocks) * Tile::units;
  index /= call.unitBlocks;
  const int firstFilter = static_cast<int>(index % call.filterBlocks) * Tile::filters;
  const int part = static_cast<int>(index / call.filterBlocks);
  const int units = call.units(), endUnit = firstUnit + Tile::units;
  const Boxes boxes(call, firstUnit, endUnit < units ? endUnit : units, part);

  Ring<Tile> ring;
  clearTails<Tile>(ring.tiles, call.plan.voxels());
  if (threadIdx.x == 0) ring.make();
  __syncthreads();
  const int warp = threadIdx.x / warpSize, lane = threadIdx.x % warpSize;
  if (warp == Tile::consumerWarps) {
    if (lane == 0 && boxes.steps > 0) produce(ring, x, dy, call, boxes, firstFilter, firstUnit);
    return;
  }

  float sums[1][Tile::columns / 2] = {};
  const int consumer = threadIdx.x / warpgroupThreads;
  const int row = consumer / Tile::across, column = consumer % Tile::across * Tile::columns / channelsOfUnit;
  ring.consume(boxes.steps, sums, [&](const unsigned char* tile) {
    const unsigned char *const a = tile + row * columnBytes, *const b =
                                                                 tile + (Tile::down + column) * columnBytes;
    UNROLL for (int k = 0; k < voxelsOfTile; k += voxelsOfProduct) multiplyBf16<Tile::columns, true>(
        sums[0], operandByDepth(a, k, columnBytes), operandByDepth(b, k, columnBytes));
  });
  UNROLL for (int i = 0; i < Tile::columns / channelsOfUnit; i++) {
    if (firstUnit + column + i >= units) return;
    const Unit unit(call, firstUnit + column + i);
    UNROLL for (int half = 0; half < 2; half++) {
      const int filter = firstFilter + row * productRows + warp % 4 * 16 + half * 8 + lane / 4;
      if (filter >= gather.columns) continue;
      const int64_t to =
          ((int64_t{part} * gather.columns + filter) * gather.taps() + unit.tap) * gather.depth;
      UNROLL for (int j = 0; j < channelsOfUnit / 8; j++) {
        const int channel = unit.channel + j * 8 + lane % 4 * 2,
                  sum = (i * channelsOfUnit / 8 + j) * 4 + half * 2;
        if (channel < gather.depth)
          storePair<Precision::f32>(call.partial, false, to + channel, true, sums[0][sum], sums[0][sum + 1]);
      }
    }
  }
}

struct Variant {
  int filters, units;
  const char* name;
  void (*run)(const char* name, const TensorMap& x, const TensorMap& dy, const GradientCall& call);
};

template <class Tile>
void runVariant(const char* name, const TensorMap& x, const TensorMap& dy, const GradientCall& call) {
  const int64_t blocks = int64_t{call.unitBlocks} * call.filterBlocks * call.parts;
  launch(name, weightGradientWarpgroupKernel<Tile>,
         Grid{static_cast<unsigned>(blocks), Tile::threads, Tile::sharedBytes}, x, dy, call);
}

template <class Tile>
constexpr Variant variantOf(const char* name) {
  return {Tile::filters, Tile::units, name, runVariant<Tile>};
}

const Variant variants[warpgroupGradientTiles] = {
    variantOf<GradientTile<2, 1, 256, 4, 1>>("warpgroups over voxels 128x256, bf16"),
    variantOf<GradientTile<1, 2, 128, 5, 1>>("warpgroups over voxels 64x256, bf16"),
    variantOf<GradientTile<2, 1, 128, 3, 2>>("warpgroups over voxels 128x128, bf16"),
};

int64_t weightsOf(const Conv3dProblem& p) { return p.K * p.taps() * p.C; }

// Voxels are cut into parts: enough to keep a device busy, few enough for their partial sums, and small
// enough for float32. By the shape alone.
GradientCall callOf(const Conv3dProblem& problem, int tile) {
  const Variant& variant = variants[tile];
  GradientCall call{
      gatherOf(problem, false), {}, static_cast<int>(divideUp(problem.C, channelsOfUnit)), 0, 0, 1, nullptr};
  call.plan = boxPlanOf(call.gather, voxelsOfTile);
  call.unitBlocks = static_cast<int>(divideUp(call.units(), variant.units));
  call.filterBlocks = static_cast<int>(divideUp(problem.K, variant.filters));
  constexpr int64_t wantedBlocks = 264, leastSteps = 8, mostSteps = 1024, mostNumbers = int64_t{1} << 24;
  const int64_t steps = call.plan.count(), blocks = int64_t{call.unitBlocks} * call.filterBlocks;
  const int64_t worth =
      std::min({divideUp(wantedBlocks, blocks), steps / leastSteps, mostNumbers / weightsOf(problem)});
  call.parts = static_cast<int>(std::max({worth, divideUp(steps, mostSteps), int64_t{1}}));
  return call;
}

// Innermost axis first.
BoxedTensor boxedX(const Conv3dProblem& p, const BoxPlan& plan) {
  const int(&box)[4] = plan.box;
  const auto step = [&p](int i) { return static_cast<int>(p.stride[i]); };
  return {2,
          5,
          {p.C, p.W, p.H, p.D, p.N},
          {channelsOfUnit, box[3], box[2], box[1], box[0]},
          {1, step(2), step(1), step(0), 1}};
}

BoxedTensor boxedDy(const Conv3dProblem& p, const BoxPlan& plan) {
  const int(&box)[4] = plan.box;
  return {2, 5, {p.K, p.Q, p.P, p.Z, p.N}, {channelsOfUnit, box[3], box[2], box[1], box[0]}};
}

}  // namespace

bool warpgroupsTakeWeightGradient(const Conv3dProblem& problem, Precision precision) {
  if (precision != Precision::bf16 || problem.groups != 1 || !hasWarpgroups()) return false;
  // Tiles would be mostly empty.
  if (problem.C <= channelsOfUnit / 2 || problem.K <= productRows / 2) return false;
  const BoxPlan plan = boxPlanOf(gatherOf(problem, false), voxelsOfTile);
  return problem.xVoxel() == problem.C && problem.yVoxel() == problem.K && plan.count() < int64_t{1} << 30 &&
         isBoxable(boxedX(problem, plan)) && isBoxable(boxedDy(problem, plan)) &&
         weightsOf(problem) < int64_t{1} << 30;
}

bool suitsWarpgroupWeightGradient(const Conv3dProblem& problem, Precision precision) {
  if (problem.C < channelsOfUnit || problem.K < productRows) return false;
  if (!warpgroupsTakeWeightGradient(problem, precision)) return false;
  const Gather gather = gatherOf(problem, false);
  return 5 * gather.outputVoxels() >= 3 * boxPlanOf(gather, voxelsOfTile).count() * voxelsOfTile;
}

int warpgroupGradientTile(const Conv3dProblem& problem) {
  if (problem.K <= productRows) return 1;
  return problem.taps() * divideUp(problem.C, channelsOfUnit) >= variants[0].units ? 0 : 2;
}

const char* warpgroupGradientName(int tile) { return variants[tile].name; }

size_t warpgroupGradientWorkspace(const Conv3dProblem& problem, int tile) {
  const int parts = callOf(problem, tile).parts;
  return parts == 1 ? 0 : static_cast<size_t>(parts * weightsOf(problem)) * sizeof(float);
}

void runWarpgroupGradient(const GradientOperands& operands, int tile) {
  const Conv3dProblem& problem = operands.problem;
  GradientCall call = callOf(problem, tile);
  call.partial = call.parts == 1 ? operands.dw : static_cast<float*>(operands.workspace);
  variants[tile].run(variants[tile].name, tensorMapOf(boxedX(problem, call.plan), operands.x),
                     tensorMapOf(boxedDy(problem, call.plan), operands.dy), call);
  if (call.parts > 1) addSlabs(call.partial, call.parts, weightsOf(problem), operands.dw);
}

}  // namespace voxgrad::cuda
