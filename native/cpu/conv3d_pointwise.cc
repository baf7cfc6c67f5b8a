#include "conv3d_pointwise.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"
#include "streams.h"

namespace voxgrad::cpu {
namespace {

// Outputs up to this size are in some cache when they are written.
constexpr int64_t kCachedFloats = 1 << 20;

}  // namespace

bool Pointwise::fits(const Conv3dProblem& p) {
  return isPointwise(p) && isBlockwise(p) && joinVoxels(p).Q >= 2 * denseKernels().spanVoxels[0];
}

Pointwise::Pointwise(const Conv3dProblem& problem, bool inputGradient)
    : problem_(problem),
      kernels_(denseKernels()),
      inputGradient_(inputGradient),
      voxels_(joinVoxels(problem).Q) {
  const Conv3dProblem& p = problem_;
  sourceStride_ = inputGradient ? p.yVoxel() : p.xVoxel();
  outputStride_ = inputGradient ? p.xVoxel() : p.yVoxel();
  steps_ = inputGradient ? p.K : p.C;
  channels_ = inputGradient ? p.C : p.K;
  vectors_ = divideUp(channels_, kernels_.lanes);
  columns_ = divideUp(vectors_, kMaxDenseVectors);
}

size_t Pointwise::packedFloats() const { return static_cast<size_t>(vectors_ * steps_ * kernels_.lanes); }

void Pointwise::pack(const float* w, float* packed) const {
  if (inputGradient_)
    packGradientColumns(problem_, w, packed);
  else
    packColumns(problem_, w, packed);
}

size_t Pointwise::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(vectors_ * kernels_.lanes);
  cursor.floats(3 * paddedSteps());
  return cursor.used();
}

Pointwise::Blocks Pointwise::cut() const {
  // As many blocks as cores can share evenly, give or take a tile.
  constexpr int64_t kFloats = 49152, kLeastTiles = 4, kBlocks = 16, kEven = 8;
  const int64_t tile = tileVoxels(), tiles = voxels_ / tile;
  const int64_t most = std::max(kLeastTiles, kFloats / ((steps_ + channels_) * tile));
  const int64_t count = divideUp(tiles, std::min(most, divideUp(tiles, kBlocks)));
  Blocks blocks;
  blocks.tiles = tiles;
  // A column of one vector has tiles twice as long.
  blocks.count = std::min(tiles / 2, divideUp(count, kEven) * kEven);
  // Few blocks are divided by columns, into tasks that are worth handing out.
  constexpr int64_t kTaskProducts = 1 << 17;
  const int64_t worth = voxels_ * steps_ * channels_ / (blocks.count * kTaskProducts);
  blocks.columnTasks = blocks.count < kBlocks ? std::clamp<int64_t>(worth, 1, columns_) : 1;
  return blocks;
}

void Pointwise::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                    void* workspace) const {
  const int64_t lanes = kernels_.lanes;
  WorkspaceCursor cursor(workspace);
  float* const paddedBias = cursor.floats(vectors_ * lanes);
  float* const coefficients = cursor.floats(3 * paddedSteps());
  std::fill_n(paddedBias, vectors_ * lanes, 0.0f);
  if (bias) std::copy_n(bias, channels_, paddedBias);
  SourceNorm norm;
  if (source.norm) norm = spreadNorm(*source.norm, steps_, steps_, paddedSteps(), coefficients);

  const Blocks blocks = cut();
  const int64_t parts = blocks.columnTasks;
  const bool streams = storesPast(output, voxels_ * channels_, {channels_, outputStride_});
  // One part after another: its weights stay in the second-level cache.
  parallelFor(blocks.count * parts, [&](int64_t task) {
    const int64_t block = task % blocks.count, part = task / blocks.count;
    const int64_t first = blocks.tiles * block / blocks.count * tileVoxels();
    const int64_t next = blocks.tiles * (block + 1) / blocks.count * tileVoxels();
    DenseSpan span = {};
    span.source = source.data + first * sourceStride_;
    span.sourceStride = sourceStride_;
    span.steps = steps_;
    span.outputStride = outputStride_;
    span.streams = streams;
    span.fetches = !streams && voxels_ * channels_ > kCachedFloats;
    // The last block has what fills no tile too.
    span.voxels = (block + 1 == blocks.count ? voxels_ : next) - first;
    if (source.norm) {
      const size_t lines = static_cast<size_t>(divideUp(span.voxels * paddedSteps(), 16));
      float* const normalized = threadScratch<Line>(lines)->floats;
      kernels_.normalizeRuns(normalized, paddedSteps(), span.source, sourceStride_, span.voxels, steps_,
                             norm);
      span.source = normalized;
      span.sourceStride = paddedSteps();
    }
    const int64_t firstColumn = columns_ * part / parts,
                  columns = columns_ * (part + 1) / parts - firstColumn;
    for (int64_t i = 0; i < columns; ++i) {
      // The last one comes first, because it may spill.
      const int64_t vector = (firstColumn + (i + columns - 1) % columns) * kMaxDenseVectors;
      const int64_t vectors = std::min<int64_t>(kMaxDenseVectors, vectors_ - vector);
      span.weights = packed + vector * steps_ * lanes;
      span.bias = paddedBias + vector * lanes;
      span.output = output + first * outputStride_ + vector * lanes;
      span.channels = std::min(channels_ - vector * lanes, vectors * lanes);
      span.spills = parts == 1 && outputStride_ == channels_;
      kernels_.span[vectors - 1](span);
    }
    if (streams) settleStreams();
  });
}

}  // namespace voxgrad::cpu
