#include <algorithm>
#include <vector>

#include "conv_gather.h"
#include "conv_slabs.h"
#include "conv_tile.h"
#include "conv_weight_gradient.h"

namespace voxgrad::cuda {
namespace {

// A block computes the gradients of ROWS filters of a group for COLUMNS pairs of tap and input channel.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
struct GradientTile {
  static constexpr int rows = ROWS, columns = COLUMNS, warpRows = WARP_ROWS, warpColumns = WARP_COLUMNS;
  static constexpr int stages = 3;
  static constexpr int warpsAcross = COLUMNS / WARP_COLUMNS;
  static constexpr int threads = ROWS / WARP_ROWS * warpsAcross * warpSize;
  // Elements from one voxel to the next: four voxels of eight channels, or eight of as many bytes, lie in
  // different banks.
  static constexpr int rowPitch = ROWS + 8, columnPitch = COLUMNS + 8;
  static constexpr int stageBytes = 128 * (rowPitch + columnPitch);
};

struct GradientCall {
  int64_t batch;
  GatherAxis axis[3];
  int groups, filters, channels;  // the last two of a group
  int64_t voxels, slab;           // of dy, and how many of them a block adds up
  int64_t dyPitch;                // numbers from one voxel to the next
  const void *x, *dy;
  float* partial;  // [slabs, dw]
  int rowBlocks, columnBlocks;

  __host__ __device__ int taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  __host__ __device__ int columns() const { return taps() * channels; }

  // Whether one of the columns [first, last) has a tap that may find a voxel of x.
  __device__ bool reaches(int first, int last) const {
    const int kernel[3] = {axis[0].taps, axis[1].taps, axis[2].taps};
    for (int64_t tap = first / channels; tap * channels < last; tap++) {
      const Digits at = Digits::of(tap, kernel);
      bool reached = at.lead == 0;
      for (int i = 0; i < 3; i++) {
        const int shift = at.digit[i] * axis[i].dilation - axis[i].pad;
        reached = reached && shift < axis[i].source && (axis[i].output - 1) * axis[i].stride + shift >= 0;
      }
      if (reached) return true;
    }
    return false;
  }
};

// What one launch makes: the operands of all have the same channels.
struct GradientCalls {
  int count;
  int64_t firstBlock[mostWeightGradients];
  GradientCall call[mostWeightGradients];
};

// Brings the voxels of both operands to shared memory, a chunk or, loosely, a channel at a time. Each thread
// fills one column of either tile: of x it knows one tap and channel, and walks over the voxels.
template <class Tile, bool LOOSE, Precision P>
struct GradientLoader {
  using T = Element<P>;
  static constexpr int vector = LOOSE ? 1 : chunkOf<T>, bytes = vector * static_cast<int>(sizeof(T));
  static constexpr int rowsAcross = Tile::rows / vector, columnsAcross = Tile::columns / vector;
  static constexpr int rowsAtOnce = Tile::threads / rowsAcross;
  static constexpr int columnsAtOnce = Tile::threads / columnsAcross;
  static_assert(tileDepth<P> % rowsAtOnce == 0 && tileDepth<P> % columnsAtOnce == 0, "whole passes");

  const GradientCall& call;
  const T* dy;  // null where the thread's filter is none
  const T* x;   // null where its tap is none
  int64_t end, dyVoxel, xVoxel;
  int shift[3];
  int extents[3];
  Digits at, advance;

  __device__ GradientLoader(const GradientCall& call, int group, int firstRow, int firstColumn, int64_t begin,
                            int64_t end)
      : call(call), end(end), extents{call.axis[0].output, call.axis[1].output, call.axis[2].output} {
    const int filter = firstRow + threadIdx.x % rowsAcross * vector;
    dy = filter < call.filters ? static_cast<const T*>(call.dy) + int64_t{group} * call.filters + filter
                               : nullptr;
    dyVoxel = begin + threadIdx.x / rowsAcross;
    const int column = firstColumn + threadIdx.x % columnsAcross * vector;
    x = column < call.columns()
            ? static_cast<const T*>(call.x) + int64_t{group} * call.channels + column % call.channels
            : nullptr;
    const int kernel[3] = {call.axis[0].taps, call.axis[1].taps, call.axis[2].taps};
    const Digits tap = Digits::of(column / call.channels, kernel);
    for (int i = 0; i < 3; i++) shift[i] = tap.digit[i] * call.axis[i].dilation - call.axis[i].pad;
    xVoxel = begin + threadIdx.x / columnsAcross;
    at = Digits::of(xVoxel, extents);
    advance = Digits::of(columnsAtOnce, extents);
  }

  __device__ __forceinline__ void load(T* tile) {
    T* to = tile + threadIdx.x / rowsAcross * Tile::rowPitch + threadIdx.x % rowsAcross * vector;
    UNROLL for (int i = 0; i < tileDepth<P> / rowsAtOnce; i++) {
      const bool valid = dy != nullptr && dyVoxel < end;
      bring<bytes>(to, valid ? dy + dyVoxel * call.dyPitch : call.dy, valid);
      to += rowsAtOnce * Tile::rowPitch;
      dyVoxel += rowsAtOnce;
    }
    to = tile + tileDepth<P> * Tile::rowPitch + threadIdx.x / columnsAcross * Tile::columnPitch +
         threadIdx.x % columnsAcross * vector;
    const int64_t channels = int64_t{call.groups} * call.channels;
    UNROLL for (int i = 0; i < tileDepth<P> / columnsAtOnce; i++) {
      bool valid = x != nullptr && xVoxel < end;
      int64_t voxel = at.lead;
      for (int k = 0; k < 3; k++) {
        const int position = at.digit[k] * call.axis[k].stride + shift[k];
        valid = valid && static_cast<unsigned>(position) < static_cast<unsigned>(call.axis[k].source);
        voxel = voxel * call.axis[k].source + position;
      }
      bring<bytes>(to, valid ? x + voxel * channels : call.x, valid);
      to += columnsAtOnce * Tile::columnPitch;
      xVoxel += columnsAtOnce;
      at.add(advance, extents);
    }
  }
};

template <class Tile, bool LOOSE, Precision P>
__global__ void __launch_bounds__(Tile::threads, 3) weightGradientKernel(GradientCalls calls) {
  using T = Element<P>;
  constexpr int stage = Tile::stageBytes / static_cast<int>(sizeof(T));
  T* tiles = sharedMemory<T>();
  int which = 0;
  while (which + 1 < calls.count && blockIdx.x >= calls.firstBlock[which + 1]) which++;
  const GradientCall& call = calls.call[which];
  // Blocks that read the same voxels follow each other.
  int64_t index = blockIdx.x - calls.firstBlock[which];
  const int firstColumn = static_cast<int>(index % call.columnBlocks) * Tile::columns;
  index /= call.columnBlocks;
  const int firstRow = static_cast<int>(index % call.rowBlocks) * Tile::rows;
  index /= call.rowBlocks;
  const int group = static_cast<int>(index % call.groups);
  const int64_t slab = index / call.groups;
  const int64_t begin = slab * call.slab;
  const int64_t end = begin + call.slab < call.voxels ? begin + call.slab : call.voxels;

  const int warp = threadIdx.x / warpSize;
  const int warpRow = warp / Tile::warpsAcross * Tile::warpRows;
  const int warpColumn = warp % Tile::warpsAcross * Tile::warpColumns;
  WarpProduct<Tile::warpRows, Tile::warpColumns, P> product;

  GradientLoader<Tile, LOOSE, P> loader(call, group, firstRow, firstColumn, begin, end);
  const bool reached = call.reaches(firstColumn, firstColumn + Tile::columns);
  const int64_t steps = reached ? (end - begin + tileDepth<P> - 1) / tileDepth<P> : 0;
  for (int step = 0; step < Tile::stages - 1; step++) {
    if (step < steps) loader.load(tiles + step * stage);
    commitCopies();
  }
  int computed = 0, loaded = Tile::stages - 1;
  for (int64_t step = 0; step < steps; step++) {
    waitCopies<Tile::stages - 2>();
    __syncthreads();
    if (step + Tile::stages - 1 < steps) loader.load(tiles + loaded * stage);
    commitCopies();
    const T* const tile = tiles + computed * stage;
    const RowsByDepth<P> a(tile + warpRow, Tile::rowPitch);
    const ColumnsByDepth<P> b(tile + tileDepth<P> * Tile::rowPitch + warpColumn, Tile::columnPitch);
    product.add([&](int row, int k, uint32_t(&into)[4]) { a.load(row, k, Tile::rowPitch, into); },
                [&](int column, int k, uint32_t(&into)[4]) {
                  b.load(column, column + 8, k, Tile::columnPitch, into);
                });
    computed = computed + 1 == Tile::stages ? 0 : computed + 1;
    loaded = loaded + 1 == Tile::stages ? 0 : loaded + 1;
  }

  const int64_t filters = int64_t{call.groups} * call.filters, columns = call.columns();
  product.forEachPair([&](int row, int column, float first, float second) {
    const int filter = firstRow + warpRow + row, at = firstColumn + warpColumn + column;
    if (filter >= call.filters || at >= columns) return;
    float* to = call.partial + (slab * filters + int64_t{group} * call.filters + filter) * columns + at;
    to[0] = first;
    if (at + 1 < columns) to[1] = second;
  });
}

using Square = GradientTile<64, 64, 32, 32>;
using Flat = GradientTile<32, 64, 32, 16>;
using Thin = GradientTile<16, 64, 16, 16>;

struct Variant {
  int rows, columns;
  Names names;
  ByPrecision<void (*)(const char* name, const GradientCalls& calls, unsigned blocks)> run;

  int rowBlocks(const Conv3dProblem& p) const { return static_cast<int>(divideUp(p.K / p.groups, rows)); }
  int columnBlocks(const Conv3dProblem& p) const {
    return static_cast<int>(divideUp(p.C / p.groups * p.taps(), columns));
  }
  // Blocks of one slab; saturates where it would overflow.
  int64_t blocks(const Conv3dProblem& p) const {
    int64_t count = p.groups;
    for (const int more : {rowBlocks(p), columnBlocks(p)})
      if (__builtin_mul_overflow(count, int64_t{more}, &count)) return INT64_MAX;
    return count;
  }
};

template <class Tile, bool LOOSE, Precision P>
void runVariant(const char* name, const GradientCalls& calls, unsigned blocks) {
  launch(name, weightGradientKernel<Tile, LOOSE, P>,
         Grid{blocks, Tile::threads, Tile::stages * Tile::stageBytes}, calls);
}

template <class Tile, bool LOOSE>
constexpr Variant variantOf(const Names& names) {
  return {Tile::rows,
          Tile::columns,
          names,
          {{runVariant<Tile, LOOSE, Precision::f32>, runVariant<Tile, LOOSE, Precision::tf32>,
            runVariant<Tile, LOOSE, Precision::bf16>}}};
}

const Variant square = variantOf<Square, false>(
    {{"GEMM over voxels 64x64, tf32x3", "GEMM over voxels 64x64, tf32", "GEMM over voxels 64x64, bf16"}});
const Variant flat = variantOf<Flat, false>(
    {{"GEMM over voxels 32x64, tf32x3", "GEMM over voxels 32x64, tf32", "GEMM over voxels 32x64, bf16"}});
const Variant thin = variantOf<Thin, false>(
    {{"GEMM over voxels 16x64, tf32x3", "GEMM over voxels 16x64, tf32", "GEMM over voxels 16x64, bf16"}});
// For channels that fill no chunk.
const Variant looseSquare = variantOf<Square, true>(
    {{"GEMM over voxels 64x64 of single numbers, tf32x3", "GEMM over voxels 64x64 of single numbers, tf32",
      "GEMM over voxels 64x64 of single numbers, bf16"}});
const Variant looseThin = variantOf<Thin, true>(
    {{"GEMM over voxels 16x64 of single numbers, tf32x3", "GEMM over voxels 16x64 of single numbers, tf32",
      "GEMM over voxels 16x64 of single numbers, bf16"}});

const Variant& choose(const Conv3dProblem& p, Precision precision, bool aligned) {
  const int64_t filters = p.K / p.groups, chunk = chunkOfPrecision(precision);
  if (!aligned || filters % chunk != 0 || p.C / p.groups % chunk != 0)
    return filters <= 16 ? looseThin : looseSquare;
  return filters <= 16 ? thin : filters <= 32 ? flat : square;
}

int64_t voxelsOf(const Conv3dProblem& p) { return p.N * p.Z * p.P * p.Q; }
int64_t weightsOf(const Conv3dProblem& p) { return p.K * p.taps() * (p.C / p.groups); }

using Problems = std::vector<Conv3dProblem>;

// Saturates where it would overflow.
int64_t blocksOf(const Problems& problems, Precision precision, bool aligned) {
  int64_t all = 0;
  for (const Conv3dProblem& p : problems)
    if (__builtin_add_overflow(all, choose(p, precision, aligned).blocks(p), &all)) return INT64_MAX;
  return all;
}

// Voxels that one block adds up: few enough for float32 and to keep a device busy, many enough to be worth
// their partial sums. By the problems alone, so that sums have the same order everywhere.
int64_t slabOf(const Problems& problems, Precision precision) {
  const int64_t voxels = voxelsOf(problems[0]), most = 65536, least = 256, depth = tileDepth<Precision::bf16>;
  int64_t weights = 0;
  for (const Conv3dProblem& p : problems) weights += weightsOf(p);
  const int64_t byBlocks = divideUp(528, std::min<int64_t>(528, blocksOf(problems, precision, true)));
  const int64_t byMemory = std::max<int64_t>(1, (int64_t{1} << 24) / weights);
  const int64_t slabs = std::max(std::min(byBlocks, byMemory), divideUp(voxels, most));
  return divideUp(std::max(divideUp(voxels, slabs), least), depth) * depth;
}

int64_t slabsOf(const Problems& problems, Precision precision) {
  return divideUp(voxelsOf(problems[0]), slabOf(problems, precision));
}

}  // namespace

const char* weightGradientName(const Conv3dProblem& problem, Precision precision) {
  return choose(problem, precision, true).names[precision];
}

int64_t weightGradientBlocks(const Problems& problems, Precision precision) {
  int64_t most = 0;
  for (const bool vectors : {false, true}) {
    int64_t blocks;
    if (__builtin_mul_overflow(blocksOf(problems, precision, vectors), slabsOf(problems, precision), &blocks))
      return INT64_MAX;
    most = std::max(most, blocks);
  }
  return most;
}

size_t weightGradientWorkspace(const Problems& problems, Precision precision) {
  const int64_t slabs = slabsOf(problems, precision);
  size_t floats = 0;
  for (const Conv3dProblem& p : problems) floats += static_cast<size_t>(slabs * weightsOf(p));
  return slabs == 1 ? 0 : floats * sizeof(float);
}

void runWeightGradients(const std::vector<GradientOperands>& gradients) {
  Problems problems;
  bool vectors = true;
  for (const GradientOperands& each : gradients) {
    problems.push_back(each.problem);
    vectors = vectors && aligned(each.x) && aligned(each.dy);
  }
  const Precision precision = gradients[0].precision;
  const Variant& variant = choose(problems[0], precision, vectors);
  const int64_t slabs = slabsOf(problems, precision);
  int64_t blocks = 0, partials = 0;
  GradientCalls calls{};
  for (const auto& [problem, own, x, dy, dw, workspace] : gradients) {
    calls.firstBlock[calls.count] = blocks;
    GradientCall& call = calls.call[calls.count++];
    call = {problem.N,
            {},
            static_cast<int>(problem.groups),
            static_cast<int>(problem.K / problem.groups),
            static_cast<int>(problem.C / problem.groups),
            voxelsOf(problem),
            slabOf(problems, precision),
            problem.yVoxel(),
            x,
            dy,
            slabs == 1 ? dw : static_cast<float*>(workspace) + partials,
            variant.rowBlocks(problem),
            variant.columnBlocks(problem)};
    const Gather gather = gatherOf(problem, false);
    std::copy(std::begin(gather.axis), std::end(gather.axis), call.axis);
    blocks += slabs * variant.blocks(problem);
    partials += slabs * weightsOf(problem);
  }
  variant.run[precision](variant.names[precision], calls, static_cast<unsigned>(blocks));
  for (int i = 0; i < calls.count && slabs > 1; i++) {
    const GradientOperands& each = gradients[static_cast<size_t>(i)];
    addSlabs(calls.call[i].partial, slabs, weightsOf(each.problem), each.dw);
  }
}

}  // namespace voxgrad::cuda
