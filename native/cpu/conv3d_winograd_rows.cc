#include "conv3d_winograd_rows.h"

#include <cmath>

#include "conv3d_task_sums.h"
#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Windows stay in the second-level cache.
constexpr int64_t kWindowFloats = 160 * 1024, kLeastBlocks = 16;
constexpr int64_t kFirstTaps = 4;  // of a row of taps that is cut in two, with stride 1

// What multiplies a filter's value at a point (see winograd_transforms.h and winograd_row_transforms.h).
struct Point {
  double at, scale;
};
const Point kThreeTaps[] = {{0, 1},
                            {std::sqrt(0.5), -2.0 / 3},
                            {-std::sqrt(0.5), -2.0 / 3},
                            {std::sqrt(2.0), 1.0 / 6},
                            {-std::sqrt(2.0), 1.0 / 6}};
constexpr Point kFourTaps[] = {{0.5, 8.0 / 45}, {-0.5, 8.0 / 45}, {1, -2.0 / 9},
                               {-1, -2.0 / 9},  {2, 2.0 / 45},    {-2, 2.0 / 45}};

}  // namespace

WinogradRows::Cut::Cut(const Conv3dProblem& p)
    : parts(p.T > 3 ? 2 : 1), phases(p.stride[2]), products(kRowProducts[parts - 1]) {
  const WinogradRowKernels& kernels = winogradRowKernels();
  const int64_t read =
      divideUp(p.Q, kRowOutputs * kernels.groupTiles) * kernels.groupTiles + (parts == 2 && phases == 1);
  tiles = divideUp(read, kernels.lanes) * kernels.lanes;
  // One cache line apart from a power of two.
  map = tiles * kRowTile + 16;
}

bool WinogradRows::fits(const Conv3dProblem& p) {
  constexpr int64_t kMostFloats = 1 << 20;  // of the rows that one row of y reads
  const int64_t kernel[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis) {
    if (kernel[axis] > 1 && p.dilation[axis] != 1) return false;
  }
  const bool cut = p.T >= 5 && p.T <= 7 && p.stride[2] <= 2;
  if (p.groups != 1 || p.C > 4 || !(cut || (p.T == 3 && p.stride[2] == 1))) return false;
  const Cut own(p);
  return p.R * p.S <= kMostFloats / (p.C * own.phases * own.map);
}

// Each weight that is loaded serves a group of tiles, and two loads a cycle feed two multiply-adds; tiles
// that both parts of a row of taps meet are loaded once. Where broadcasts are instructions of their own, two
// vectors share them.
double WinogradRows::cost(const Conv3dProblem& p) {
  constexpr double kOutput = 14, kSource = 5;
  const Cut cut(p);
  const int64_t vectors = divideUp(p.K, winogradRowKernels().lanes);
  double product = cut.parts == 1 ? 1.25 : cut.phases == 1 ? 1.15 : 1.4;
  if (winogradRowKernels().vectors > 1) product = vectors > 1 ? 1.05 : 1.25;
  const StemBlocks blocks(p, p.C * cut.phases * cut.map, kWindowFloats, kLeastBlocks);
  double rowTaps = static_cast<double>(p.N * p.C);
  for (int axis = 0; axis < 2; ++axis) {
    int64_t pairs = 0;
    for (int64_t i = 0; i < (axis == 0 ? p.Z : p.P); ++i) pairs += blocks.tapsInside(axis, i).count();
    rowTaps *= static_cast<double>(pairs);
  }
  const int64_t group = winogradRowKernels().groupTiles;
  const double tiles = static_cast<double>(divideUp(p.Q, kRowOutputs * group) * group);
  return static_cast<double>(vectors) * tiles *
             (product * static_cast<double>(cut.products) * rowTaps +
              kOutput * static_cast<double>(p.N * p.Z * p.P)) +
         kSource * static_cast<double>(blocks.count() * blocks.windowRows() * p.C * cut.phases * cut.tiles);
}

WinogradRows::WinogradRows(const Conv3dProblem& problem)
    : problem_(problem),
      kernels_(winogradRowKernels()),
      cut_(problem),
      vectors_(divideUp(problem.K, kernels_.lanes)),
      blocks_(problem, rowFloats(), kWindowFloats, kLeastBlocks),
      workers_(std::min<int64_t>(ThreadPool::shared().size(), blocks_.count())) {}

size_t WinogradRows::packedFloats() const {
  return static_cast<size_t>(vectors_ * problem_.R * problem_.S * rowWeights());
}

// Layout: [vectors][R][S][C][products][lanes].
void WinogradRows::pack(const float* w, float* packed) const {
  const Conv3dProblem& p = problem_;
  const int64_t lanes = kernels_.lanes, rowTaps = p.R * p.S, filter = rowTaps * p.T * p.C;
  const auto transformPart = [&](const float* taps, int64_t part, float* to) {
    // Of T taps at t * step + part * shift.
    double g[kFirstTaps] = {};
    const int64_t count = cut_.parts == 1 ? 3 : kFirstTaps - part;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t t = cut_.phases == 2 ? 2 * j + part : j + part * kFirstTaps;
      if (t < p.T) g[j] = taps[t * p.C];
    }
    const auto at = [&g](const Point& point) {
      return static_cast<float>(point.scale *
                                (g[0] + point.at * (g[1] + point.at * (g[2] + point.at * g[3]))));
    };
    int64_t f = 0;
    if (cut_.parts == 1) {
      for (const Point& point : kThreeTaps) to[f++ * lanes] = at(point);
    } else {
      for (const Point& point : kFourTaps) to[f++ * lanes] = at(point);
    }
    if (part == 0) to[f * lanes] = static_cast<float>(g[count - 1]);
  };
  parallelFor(vectors_ * rowTaps, [&](int64_t task) {
    const int64_t vector = task / rowTaps, rowTap = task % rowTaps;
    float* const to = packed + task * rowWeights();
    std::fill_n(to, rowWeights(), 0.0f);
    for (int64_t lane = 0; lane < std::min(lanes, p.K - vector * lanes); ++lane) {
      const float* const taps = w + (vector * lanes + lane) * filter + rowTap * p.T * p.C;
      for (int64_t c = 0; c < p.C; ++c) {
        float* const own = to + c * cut_.products * lanes + lane;
        for (int64_t part = 0; part < cut_.parts; ++part)
          transformPart(taps + c, part, own + part * 7 * lanes);
      }
    }
  });
}

struct WinogradRows::Room {
  float *bias, *scratch;
  int64_t window;  // floats
  TaskSums sums;
  size_t bytes;
};

WinogradRows::Room WinogradRows::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const bias = cursor.floats(vectors_ * kernels_.lanes);
  const int64_t window = blocks_.windowRows() * rowFloats();
  float* const scratch = cursor.floats(workers_ * (window + lineFloats()));
  const TaskSums sums(cursor, blocks_.count(), vectors_, kernels_.lanes);
  return {bias, scratch, window, sums, cursor.used()};
}

size_t WinogradRows::workspace() const { return divide(nullptr).bytes; }

void WinogradRows::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                       void* workspace, float* moments) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * kernels_.lanes, 0.0f);
  if (bias) std::copy_n(bias, problem_.K, room.bias);
  forTasks(workers_, blocks_.count(), [&](int64_t worker, int64_t index) {
    float* const window = room.scratch + worker * (room.window + lineFloats());
    const StemBlock block = blocks_.at(index);
    transformBlock(block, source.data, window + room.window, window);
    multiplyBlock(block, index, room, window, packed, output, moments);
  });
  if (moments) room.sums.merge(problem_.K, moments);
}

// Rows of x outside of it are left as they are: no taps read them.
void WinogradRows::transformBlock(const StemBlock& block, const float* x, float* line, float* window) const {
  const Conv3dProblem& p = problem_;
  const int64_t planes = blocks_.window(0, block.endPlane - block.plane);
  const int64_t rows = blocks_.window(1, block.endRow - block.row);
  const int64_t firstPlane = block.plane * p.stride[0] - p.pad[0];
  const int64_t firstRow = block.row * p.stride[1] - p.pad[1];
  for (int64_t d = std::max<int64_t>(0, firstPlane); d < std::min(p.D, firstPlane + planes); ++d) {
    for (int64_t h = std::max<int64_t>(0, firstRow); h < std::min(p.H, firstRow + rows); ++h) {
      transformRow(x + ((block.sample * p.D + d) * p.H + h) * p.W * p.C, line,
                   window + ((d - firstPlane) * rows + h - firstRow) * rowFloats());
    }
  }
}

// Layout: [C][phases][tiles][kRowTile].
void WinogradRows::transformRow(const float* x, float* line, float* transformed) const {
  const Conv3dProblem& p = problem_;
  for (int64_t map = 0; map < p.C * cut_.phases; ++map) {
    const int64_t channel = map / cut_.phases, offset = map % cut_.phases - p.pad[2];
    ReachedOutputs inside = reachedOutputs(lineFloats(), p.W, cut_.phases, offset);
    inside = {std::min(lineFloats(), inside.first), std::min(lineFloats(), inside.last)};
    std::fill_n(line, inside.first, 0.0f);
    const int64_t step = cut_.phases * p.C;
    const float* const from = x + offset * p.C + channel;
    if (step == 1) {
      std::copy(from + inside.first, from + inside.last, line + inside.first);
    } else {
      for (int64_t i = inside.first; i < inside.last; ++i) line[i] = from[i * step];
    }
    std::fill(line + inside.last, line + lineFloats(), 0.0f);
    kernels_.transform[cut_.parts - 1]({line, cut_.tiles, transformed + map * cut_.map});
  }
}

void WinogradRows::multiplyBlock(const StemBlock& block, int64_t index, const Room& room, const float* window,
                                 const float* packed, float* y, bool sums) const {
  constexpr int64_t kSummedVoxels = 256;  // in float
  const Conv3dProblem& p = problem_;
  const int64_t rows = blocks_.window(1, block.endRow - block.row), lanes = kernels_.lanes;
  WinogradRowProduct product{};
  product.lineTiles = p.stride[1] * rowFloats();
  product.rowTiles = cut_.phases * cut_.map;
  product.planeTiles = rows * rowFloats();
  product.secondTiles = cut_.phases == 1 ? kRowTile : cut_.map;
  product.planeWeights = p.S * rowWeights();
  product.vectorWeights = p.R * product.planeWeights;
  product.voxels = p.Q;
  product.outputLine = p.Q * p.K;
  product.outputVoxel = p.K;
  ChannelSums own{};
  for (int64_t vector = 0, vectors; vector < vectors_; vector += vectors) {
    vectors = std::min<int64_t>(kernels_.vectors, vectors_ - vector);
    if (sums) own = room.sums.begin(index, vector, vectors);
    product.sums = sums ? &own : nullptr;
    product.bias = room.bias + vector * lanes;
    product.channels = std::min(vectors * lanes, p.K - vector * lanes);
    for (int64_t plane = block.plane; plane < block.endPlane; ++plane) {
      const StemTaps deep = blocks_.tapsInside(0, plane);
      product.planes = deep.count();
      for (int64_t row = block.row; row < block.endRow; row += product.lines) {
        const StemTaps across = blocks_.tapsInside(1, row);
        product.lines = blocks_.endOfAlike(row, block.endRow) - row;
        if (sums) product.lines = std::min(product.lines, std::max<int64_t>(1, kSummedVoxels / p.Q));
        product.rows = across.count() * p.C;
        const int64_t fromPlane = (plane - block.plane) * p.stride[0] + deep.first;
        const int64_t fromRow = (row - block.row) * p.stride[1] + across.first;
        product.tiles = window + (fromPlane * rows + fromRow) * rowFloats();
        product.weights = packed + ((vector * p.R + deep.first) * p.S + across.first) * rowWeights();
        product.output = y + ((block.sample * p.Z + plane) * p.P + row) * product.outputLine + vector * lanes;
        kernels_.product[vectors - 1][cut_.parts - 1](product);
        own.voxels += product.lines * p.Q;
      }
    }
  }
  if (sums) room.sums.end(index, own);
}

}  // namespace voxgrad::cpu
