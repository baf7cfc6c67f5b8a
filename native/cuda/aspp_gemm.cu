#include <algorithm>

#include "aspp_gemm.h"
#include "conv_gemm_tile.h"

namespace voxgrad::cuda {
namespace {

// What a block knows besides its tiles.
template <class Tile>
struct AsppState {
  int position[Tile::rows]
              [3];      // of the voxel of a row; of one behind the last, outside whatever tap is added
  int low[3], high[3];  // the positions of all rows lie between
  int64_t depth;        // of the taps that some row may reach, channels and all
};

// The taps of branches [branch, end), those that no row of the block reaches left out.
template <class Tile>
struct TapWalk {
  const AsppCall& call;
  const AsppState<Tile>& state;
  int branch, end, tap;
  int shift[3];

  __device__ TapWalk(const AsppCall& call, const AsppState<Tile>& state, int first, int end)
      : call(call), state(state), branch(first), end(end), tap(-1) {
    next();
  }

  __device__ __forceinline__ bool inside() const { return branch < end; }

  __device__ void next() {
    do {
      if (++tap == call.branch[branch].taps) {
        branch++;
        tap = 0;
      }
    } while (inside() && !reaches());
  }

 private:
  __device__ bool reaches() {
    const AsppCall::Branch& own = call.branch[branch];
    int rest = tap;
    bool reached = true;
    for (int i = 2; i >= 0; i--) {
      const int distance = (rest % own.kernel[i] - own.kernel[i] / 2) * own.dilation[i];
      rest /= own.kernel[i];
      shift[i] = call.transposed ? -distance : distance;
      reached = reached && state.high[i] + shift[i] >= 0 && state.low[i] + shift[i] < call.extent[i];
    }
    return reached;
  }
};

// Brings tiles of both operands to shared memory: each thread knows one tap and channel.
template <class Tile, bool LOOSE, Precision P>
struct AsppLoader : TileFill<Tile, LOOSE, P> {
  using Fill = TileFill<Tile, LOOSE, P>;
  using Fill::across, Fill::atOnce, Fill::bytes, Fill::pitch, Fill::vector;
  using typename Fill::T;

  const AsppCall& call;
  const AsppState<Tile>& state;
  int64_t firstRow;
  int firstColumn, channel;
  TapWalk<Tile> at;

  __device__ AsppLoader(const AsppCall& call, const AsppState<Tile>& state, int64_t firstRow, int firstColumn,
                        int branch, int end)
      : call(call),
        state(state),
        firstRow(firstRow),
        firstColumn(firstColumn),
        channel(threadIdx.x % across * vector),
        at(call, state, branch, end) {
    wrap();
  }

  __device__ __forceinline__ void wrap() {
    while (channel >= call.depth && at.inside()) {
      channel -= call.depth;
      at.next();
    }
  }

  __device__ __forceinline__ void load(T* tile) {
    const bool inside = at.inside();
    const int branch = inside ? at.branch : 0;
    const int row0 = threadIdx.x / across;
    T* to = tile + row0 * pitch + threadIdx.x % across * vector;
    const int64_t apart = call.sourcePitch();
    const int64_t voxels =
        (int64_t{at.shift[0]} * call.extent[1] + at.shift[1]) * call.extent[2] + at.shift[2];
    const T* source =
        static_cast<const T*>(call.source) + channel + (call.transposed ? int64_t{branch} * call.depth : 0);
    UNROLL for (int i = 0; i < Tile::rows / atOnce; i++) {
      const int(&position)[3] = state.position[row0 + i * atOnce];
      bool valid = inside;
      for (int k = 0; k < 3; k++)
        valid = valid && static_cast<unsigned>(position[k]) + static_cast<unsigned>(at.shift[k]) <
                             static_cast<unsigned>(call.extent[k]);
      const int64_t voxel = firstRow + row0 + i * atOnce + voxels;
      bring<bytes>(to, valid ? source + voxel * apart : call.source, valid);
      to += atOnce * pitch;
    }
    const AsppCall::Branch& own = call.branch[branch];
    const T* weights = static_cast<const T*>(own.weights) + int64_t{at.tap} * call.depth + channel;
    UNROLL for (int i = 0; i < Tile::columns / atOnce; i++) {
      const int column = firstColumn + row0 + i * atOnce;
      const bool valid = inside && column < call.columns;
      bring<bytes>(to, valid ? weights + column * (int64_t{own.taps} * call.depth) : own.weights, valid);
      to += atOnce * pitch;
    }
    channel += tileDepth<P>;
    wrap();
  }
};

template <class Tile>
__device__ void placeRows(const AsppCall& call, int64_t firstRow, int branch, int end,
                          AsppState<Tile>& state) {
  // Unsigned, this position stays behind every axis whatever tap is added.
  constexpr int nowhere = -2147483647 - 1;
  for (int row = threadIdx.x; row < Tile::rows; row += Tile::threads) {
    const Digits at = Digits::of(firstRow + row, call.extent);
    const bool exists = firstRow + row < call.voxels;
    for (int i = 0; i < 3; i++) state.position[row][i] = exists ? at.digit[i] : nowhere;
  }
  if (threadIdx.x == 0) {
    const int64_t lastRow = firstRow + Tile::rows < call.voxels ? firstRow + Tile::rows - 1 : call.voxels - 1;
    const Digits first = Digits::of(firstRow, call.extent), last = Digits::of(lastRow, call.extent);
    bool apart = first.lead != last.lead;
    for (int i = 0; i < 3; i++) {
      state.low[i] = apart ? 0 : first.digit[i];
      state.high[i] = apart ? call.extent[i] - 1 : last.digit[i];
      apart = apart || first.digit[i] != last.digit[i];
    }
    state.depth = 0;
    for (TapWalk<Tile> walk(call, state, branch, end); walk.inside(); walk.next()) state.depth += call.depth;
  }
  __syncthreads();
}

template <class Tile, bool LOOSE, Precision P>
__global__ void __launch_bounds__(Tile::threads, Tile::together) asppKernel(AsppCall call, int columnBlocks) {
  using Product = BlockProduct<Tile, P>;
  auto* const tiles = sharedMemory<Element<P>>();
  auto& state = *reinterpret_cast<AsppState<Tile>*>(tiles + Tile::stages * Product::stage);

  // Blocks that read the same part of the source follow each other.
  int64_t index = blockIdx.x;
  const int firstColumn = static_cast<int>(index % columnBlocks) * Tile::columns;
  index /= columnBlocks;
  const int results = call.transposed ? 1 : call.branches;
  const int result = static_cast<int>(index % results);
  const int64_t firstRow = index / results * Tile::rows;
  const int branch = call.transposed ? 0 : result, end = call.transposed ? call.branches : result + 1;
  placeRows(call, firstRow, branch, end, state);

  Product product;
  AsppLoader<Tile, LOOSE, P> loader(call, state, firstRow, firstColumn, branch, end);
  product.add(tiles, loader, (state.depth + tileDepth<P> - 1) / tileDepth<P>);

  const int64_t pitch = call.outputPitch();
  product.forEachPair([&](int row, int column, float first, float second) {
    const int64_t voxel = firstRow + row;
    const int at = firstColumn + column;
    if (voxel >= call.voxels || at >= call.columns) return;
    storePair<P>(call.output, call.narrow, voxel * pitch + int64_t{result} * call.columns + at,
                 at + 1 < call.columns, first, second);
  });
}

using Wide = GemmTile<128, 64, 32, 32, 3>;
using Small = GemmTile<64, 32, 32, 32, 3>;

struct Variant {
  int rows, columns;
  Names names;
  ByPrecision<void (*)(const char* name, const Variant& variant, const AsppCall& call)> run;

  int columnBlocks(const AsppCall& call) const { return static_cast<int>(divideUp(call.columns, columns)); }
  // Saturates where it would overflow.
  int64_t blocks(const AsppCall& call) const {
    int64_t count = divideUp(call.voxels, rows);
    for (const int more : {columnBlocks(call), call.transposed ? 1 : call.branches})
      if (__builtin_mul_overflow(count, int64_t{more}, &count)) return INT64_MAX;
    return count;
  }
};

template <class Tile, bool LOOSE, Precision P>
void runVariant(const char* name, const Variant& variant, const AsppCall& call) {
  const size_t bytes = Tile::stages * Tile::stageBytes + sizeof(AsppState<Tile>);
  launch(name, asppKernel<Tile, LOOSE, P>,
         Grid{static_cast<unsigned>(variant.blocks(call)), Tile::threads, bytes}, call,
         variant.columnBlocks(call));
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
    {{"joined GEMM 128x64, tf32x3", "joined GEMM 128x64, tf32", "joined GEMM 128x64, bf16"}});
const Variant small = variantOf<Small, false>(
    {{"joined GEMM 64x32, tf32x3", "joined GEMM 64x32, tf32", "joined GEMM 64x32, bf16"}});
// For channels that fill no chunk.
const Variant loose = variantOf<Small, true>(
    {{"joined GEMM 64x32 of single numbers, tf32x3", "joined GEMM 64x32 of single numbers, tf32",
      "joined GEMM 64x32 of single numbers, bf16"}});

const Variant& choose(const AsppCall& call, bool aligned) {
  if (!aligned || call.depth % chunkOfPrecision(call.precision) != 0) return loose;
  // Tiles that are large reuse more, but a device of some hundred multiprocessors wants that many blocks.
  return call.columns <= 32 || wide.blocks(call) < 128 ? small : wide;
}

}  // namespace

AsppCall asppCall(const std::vector<AsppBranch>& branches, bool transposed, Precision precision) {
  const Conv3dProblem& first = branches[0].problem;
  AsppCall call{};
  call.precision = precision;
  call.voxels = first.N * first.D * first.H * first.W;
  const int64_t extent[3] = {first.D, first.H, first.W};
  std::copy_n(extent, 3, call.extent);
  call.transposed = transposed;
  call.depth = static_cast<int>(transposed ? first.K : first.C);
  call.columns = static_cast<int>(transposed ? first.C : first.K);
  call.branches = static_cast<int>(branches.size());
  for (int i = 0; i < call.branches; i++) {
    const Conv3dProblem& p = branches[static_cast<size_t>(i)].problem;
    const int64_t kernel[3] = {p.R, p.S, p.T};
    std::copy_n(kernel, 3, call.branch[i].kernel);
    std::copy_n(p.dilation, 3, call.branch[i].dilation);
    call.branch[i].taps = static_cast<int>(p.taps());
  }
  return call;
}

const char* asppName(const AsppCall& call) { return choose(call, true).names[call.precision]; }

int64_t asppBlocks(const AsppCall& call) {
  return std::max(choose(call, true).blocks(call), choose(call, false).blocks(call));
}

void runAspp(const AsppCall& call, bool whole) {
  const Variant& variant = choose(call, whole);
  variant.run[call.precision](variant.names[call.precision], variant, call);
}

}  // namespace voxgrad::cuda
