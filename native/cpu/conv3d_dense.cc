#include "conv3d_dense.h"

#include "../core/thread_pool.h"
#include "streams.h"

namespace voxgrad::cpu {
namespace {

// A row of voxels that is shorter than this is not worth a tile of its own.
constexpr int64_t kLeastVoxels = 4;
// Tiles that are computed while a line of the output comes from memory.
constexpr int64_t kTilesAhead = 2;

bool isZero(const float* bias, int64_t channels) {
  return std::all_of(bias, bias + channels, [](float value) { return value == 0.0f; });
}

}  // namespace

bool isPointwise(const Conv3dProblem& p) {
  return p.taps() == 1 && p.Z == p.D && p.P == p.H && p.Q == p.W && p.stride[0] == 1 && p.stride[1] == 1 &&
         p.stride[2] == 1;
}

Conv3dProblem joinVoxels(Conv3dProblem p) {
  if (!isPointwise(p)) return p;
  p.W = p.Q = p.N * p.D * p.H * p.W;
  p.N = p.D = p.H = p.Z = p.P = 1;
  return p;
}

bool isBlockwise(const Conv3dProblem& p) {
  const int64_t x[3] = {p.D, p.H, p.W}, kernel[3] = {p.R, p.S, p.T}, y[3] = {p.Z, p.P, p.Q};
  for (int a = 0; a < 3; ++a) {
    const bool apart = kernel[a] == 1 || (kernel[a] <= p.stride[a] && p.dilation[a] == 1);
    if (!apart || p.pad[a] != 0 || (y[a] - 1) * p.stride[a] + kernel[a] > x[a]) return false;
  }
  return p.groups == 1 && joinVoxels(p).Q >= kLeastVoxels;
}

Dense::Dense(const Conv3dProblem& problem, bool inputGradient)
    : problem_(joinVoxels(problem)), x_(problem_), kernels_(denseKernels()), inputGradient_(inputGradient) {
  const Conv3dProblem& p = problem_;
  rows_ = p.N * p.Z * p.P;
  voxels_ = p.Q;
  const int64_t run = p.T * p.C;
  const int64_t pitch = p.stride[2] * p.C;
  sourceStride_ = inputGradient ? p.K : pitch;
  outputStride_ = inputGradient ? pitch : p.K;
  segments_ = inputGradient ? 1 : p.R * p.S;
  steps_ = inputGradient ? p.K : run;
  outputs_ = inputGradient ? p.R * p.S : 1;
  outputFloats_ = inputGradient ? run : p.K;
  vectors_ = divideUp(outputFloats_, kernels_.lanes);
  columns_ = divideUp(vectors_, kMaxDenseVectors);
  inLines_ = sourceStride_ == 1 && voxels_ % kernels_.groupVoxels == 0;
  covers_ = !inputGradient || (p.D == p.Z * p.R && p.H == p.P * p.S && p.W == p.Q * p.T);
}

size_t Dense::packedFloats() const {
  return static_cast<size_t>(outputs_ * vectors_ * segments_ * steps_ * kernels_.lanes);
}

size_t Dense::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(vectors_ * kernels_.lanes);
  cursor.floats(3 * paddedSteps());
  return cursor.used();
}

// Blocks of voxels that one task takes through all columns: their source stays in the second-level cache, the
// weights of a column in the first.
struct Dense::Blocks {
  int64_t groupsPerRow;
  int64_t unit, groups;  // blocks are of whole units of so many groups; groups in all
  int64_t count;
  int64_t columnTasks;  // of a block, that share its columns
  // While the tiles of a row are computed, they clear what the next row of the block answers for.
  bool clears;

  // The first group of a block, or the end of the one before.
  int64_t begin(int64_t block) const {
    return std::min(groups, divideUp(groups, unit) * block / count * unit);
  }
};

Dense::Blocks Dense::cut() const {
  constexpr int64_t kSourceFloats = 32768, kLeastTiles = 4;
  Blocks blocks;
  blocks.groupsPerRow = divideUp(voxels_, kernels_.groupVoxels);
  blocks.groups = rows_ * blocks.groupsPerRow;
  const int64_t tile = kernels_.maxGroups[std::min<int64_t>(vectors_, kMaxDenseVectors) - 1];
  const int64_t groupFloats = segments_ * steps_ * kernels_.groupVoxels;
  const int64_t tiles = std::max(kLeastTiles, kSourceFloats / (groupFloats * tile));
  int64_t most = tile * std::min(tiles, divideUp(blocks.groups, tile * 64));
  const int64_t planes = std::max(problem_.stride[0], problem_.D - (problem_.Z - 1) * problem_.stride[0]);
  blocks.clears =
      !covers_ && !inLines_ && blocks.groupsPerRow >= tile && divideUp(blocks.groupsPerRow, tile) >= planes;
  if (blocks.clears) {
    // Nobody clears the first row's meanwhile.
    constexpr int64_t kMostRows = 16, kTasks = 24;
    most = std::max(most, std::clamp<int64_t>(rows_ / kTasks, 1, kMostRows) * blocks.groupsPerRow);
  }
  // Rows are whole where voxels between the runs are filled row by row by the task that has the row; a line
  // is cut as a whole.
  blocks.unit = !covers_ || inLines_ ? blocks.groupsPerRow : tile;
  const int64_t units = divideUp(blocks.groups, blocks.unit);
  blocks.count = divideUp(units, divideUp(most, blocks.unit));
  // As many as cores can share evenly.
  constexpr int64_t kEven = 8;
  if (blocks.count > kEven) blocks.count = std::min(units, divideUp(blocks.count, kEven) * kEven);
  // Few blocks are divided by columns, into tasks that are worth handing out.
  constexpr int64_t kFewBlocks = 32, kTaskProducts = 1 << 17;
  const int64_t products = rows_ * voxels_ * segments_ * steps_ * outputs_ * outputFloats_;
  const int64_t worth = products / (blocks.count * kTaskProducts);
  blocks.columnTasks =
      covers_ && blocks.count < kFewBlocks ? std::clamp<int64_t>(worth, 1, outputs_ * columns_) : 1;
  return blocks;
}

// Tasks that share a block would each normalise all of it.
bool Dense::normalizes() const { return !inLines_ && cut().columnTasks == 1; }

void Dense::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const paddedBias = cursor.floats(vectors_ * kernels_.lanes);
  float* const coefficients = cursor.floats(3 * paddedSteps());
  const int64_t channels = inputGradient_ ? problem_.C : problem_.K;
  for (int64_t i = 0; i < vectors_ * kernels_.lanes; ++i) {
    paddedBias[i] = bias && i < outputFloats_ ? bias[i % channels] : 0.0f;
  }
  SourceNorm norm;
  if (source.norm)
    norm = spreadNorm(*source.norm, inputGradient_ ? problem_.K : problem_.C, steps_, paddedSteps(),
                      coefficients);
  const ConvolutionSource from{source.data, source.norm ? &norm : nullptr};
  const Blocks blocks = cut();
  const int64_t columns = outputs_ * columns_, parts = blocks.columnTasks;
  // One part after another: its weights stay in the second-level cache.
  parallelFor(blocks.count * parts, [&](int64_t task) {
    const int64_t block = task % blocks.count, part = task / blocks.count;
    runBlock(from, packed, paddedBias, output, blocks, block, columns * part / parts,
             columns * (part + 1) / parts);
  });
}

bool Dense::streams(const float* output) const {
  const Conv3dProblem& p = problem_;
  if (!inputGradient_) return storesPast(output, rows_ * voxels_ * p.K, {outputFloats_, outputStride_});
  return storesPast(output, p.N * p.D * p.H * p.W * p.C,
                    {outputFloats_, outputStride_, x_.tapStep(0), x_.tapStep(1)});
}

// The first voxel of the row-th row of y.
DensePlace Dense::placeRow(int64_t row, const float* source, float* output) const {
  const Conv3dProblem& p = problem_;
  const int64_t n = row / (p.Z * p.P), z = row / p.P % p.Z, q = row % p.P;
  const int64_t x = n * x_.sample() + z * x_.step(0) + q * x_.step(1);
  const int64_t y = row * p.Q * p.K;
  return inputGradient_ ? DensePlace{source + y, output + x, 0} : DensePlace{source + x, output + y, 0};
}

// What the row-th row of y answers for in dx, up to the next row: some rows of each of so many planes.
int64_t Dense::gaps(int64_t row) const {
  const int64_t z = row / problem_.P % problem_.Z, first = z * problem_.stride[0];
  return (z + 1 == problem_.Z ? problem_.D : first + problem_.stride[0]) - first;
}

Dense::Gap Dense::gap(int64_t row, int64_t index, float* output) const {
  const Conv3dProblem& p = problem_;
  const int64_t n = row / (p.Z * p.P), z = row / p.P % p.Z, q = row % p.P;
  const int64_t d = z * p.stride[0] + index, first = q * p.stride[1];
  const int64_t end = q + 1 == p.P ? p.H : first + p.stride[1];
  return {output + ((n * p.D + d) * p.H + first) * p.W * p.C, (end - first) * p.W * p.C};
}

// Fills it with the bias, or zero.
void Dense::fillRow(int64_t row, const float* bias, float* output) const {
  const bool zero = isZero(bias, problem_.C);
  for (int64_t i = 0; i < gaps(row); ++i) {
    const Gap all = gap(row, i, output);
    // A call per voxel costs more than the stores of one; gradients have no bias.
    if (zero) {
      std::fill_n(all.at, all.floats, 0.0f);
      continue;
    }
    for (float* to = all.at; to < all.at + all.floats;) to = std::copy_n(bias, problem_.C, to);
  }
}

void Dense::runBlock(const ConvolutionSource& from, const float* packed, const float* bias, float* output,
                     const Blocks& blocks, int64_t block, int64_t firstColumn, int64_t endColumn) const {
  const Conv3dProblem& p = problem_;
  const int64_t lanes = kernels_.lanes;
  const int64_t first = blocks.begin(block), groups = blocks.begin(block + 1) - first;
  const bool clears = blocks.clears && isZero(bias, p.C);
  // Behind the last one it is repeated, for tiles that look ahead.
  constexpr int64_t kBeyond = kTilesAhead * kMaxDenseGroups;
  DensePlace* const places = threadScratch<DensePlace>(static_cast<size_t>(groups + kBeyond));
  for (int64_t g = 0; g < groups;) {
    const int64_t row = (first + g) / blocks.groupsPerRow, inRow = (first + g) % blocks.groupsPerRow;
    const DensePlace start = placeRow(row, from.data, output);
    if (!covers_ && (g == 0 || !clears)) fillRow(row, bias, output);
    const int64_t count = std::min(groups - g, blocks.groupsPerRow - inRow);
    for (int64_t i = inRow; i < inRow + count; ++i) {
      // The last group overlaps its neighbour where groups do not divide the row.
      const int64_t voxel = std::min(i * kernels_.groupVoxels, voxels_ - kernels_.groupVoxels);
      places[g++] = {start.source + voxel * sourceStride_, start.output + voxel * outputStride_, 0};
    }
  }
  DenseJump* const jumps = threadScratch<DenseJump>(static_cast<size_t>(segments_));
  int64_t voxelStride = sourceStride_;
  if (from.norm) {
    normalize(*from.norm, places, groups);
    voxelStride = paddedSteps();
  }
  for (int64_t i = 0; i < segments_; ++i) {
    if (from.norm) {
      jumps[i] = {kernels_.groupVoxels * paddedSteps() - steps_, 0};
      continue;
    }
    const bool rowEnds = (i + 1) % p.S == 0;
    jumps[i] = {(rowEnds ? x_.tapStep(0) - (p.S - 1) * x_.tapStep(1) : x_.tapStep(1)) - steps_, 0};
  }
  // As many steps pass, at least, while a source comes from memory.
  constexpr int64_t kStepsAhead = 64;
  const int64_t tilesOnward = std::max<int64_t>(1, kStepsAhead / (segments_ * steps_));
  const int64_t onward = tilesOnward * kernels_.maxGroups[std::min<int64_t>(vectors_, kMaxDenseVectors) - 1];
  for (int64_t g = 0; g < groups; ++g)
    places[g].ahead = places[std::min(g + onward, groups - 1)].source - places[g].source;
  std::fill_n(places + groups, kBeyond, places[groups - 1]);
  DenseTile tile = {};
  tile.jumps = jumps;
  tile.segments = segments_;
  tile.steps = steps_;
  tile.sourceStride = voxelStride;
  tile.outputStride = outputStride_;
  tile.streams = streams(output);
  for (int64_t column = firstColumn; column < endColumn; ++column) {
    const int64_t segment = column / columns_, firstVector = column % columns_ * kMaxDenseVectors;
    const int64_t vectors = std::min<int64_t>(kMaxDenseVectors, vectors_ - firstVector);
    const int64_t mostGroups = kernels_.maxGroups[vectors - 1];
    const int64_t at = outputs_ > 1 ? segment / p.S * x_.tapStep(0) + segment % p.S * x_.tapStep(1) : 0;
    tile.weights = packed + (segment * vectors_ + firstVector) * segments_ * steps_ * lanes;
    tile.bias = bias + firstVector * lanes;
    tile.outputAt = at + firstVector * lanes;
    tile.channels = std::min(outputFloats_ - firstVector * lanes, vectors * lanes);
    const DenseKernel* const plain = inLines_ ? kernels_.line[vectors - 1] : kernels_.tile[vectors - 1];
    // Tiles are as even as possible; those of one line end with it.
    const int64_t unit = inLines_ || clears ? blocks.groupsPerRow : groups;
    const int64_t tiles = divideUp(unit, mostGroups);
    for (int64_t start = 0; start < groups; start += unit) {
      const bool clearsNext = clears && column == 0 && start + unit < groups;
      const int64_t nextRow = (first + start) / blocks.groupsPerRow + 1;
      const int64_t tilesPerGap = clearsNext ? tiles / gaps(nextRow) : 1;
      for (int64_t t = 0, g = 0; t < tiles; ++t) {
        tile.zeroFloats = 0;
        if (clearsNext && t / tilesPerGap < gaps(nextRow)) {
          const Gap next = gap(nextRow, t / tilesPerGap, output);
          const int64_t part = t % tilesPerGap, lines = next.floats / kLineFloats;
          const int64_t from = lines * part / tilesPerGap * kLineFloats;
          const int64_t end = lines * (part + 1) / tilesPerGap * kLineFloats;
          tile.zeros = next.at + from;
          tile.zeroFloats = (part + 1 == tilesPerGap ? next.floats : end) - from;
        }
        const int64_t used = unit * (t + 1) / tiles - g;
        tile.places = places + start + g;
        // Where every voxel yields several runs, most of the time is that of stores.
        if (outputs_ > 1 && !tile.streams) tile.placesAhead = tile.places + kTilesAhead * used;
        (tile.zeroFloats > 0 ? kernels_.clearing[vectors - 1] : plain)[used - 1](tile);
        g += used;
      }
    }
  }
  if (tile.streams) settleStreams();
}

}  // namespace voxgrad::cpu
