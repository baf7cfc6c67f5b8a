// Weight gradients of blockwise convolutions whose runs are long: chunk by chunk, dy is packed in blocks of
// channels and x in columns of vectors, so that voxels whose rows lie a power of two apart do not compete for
// the same lines of the first-level cache.
#include "../core/thread_pool.h"
#include "conv3d_dense.h"
#include "conv3d_dense_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

// A column of a chunk comes from the second-level cache for every block of channels. Shorter ones, which the
// first level holds, add to the sums more often than pays.
constexpr int64_t kColumnFloats = 12288;
constexpr int64_t kLineFloats = 16;

}  // namespace

struct DenseWeightGradient::Chunk {
  int64_t first, voxels;
};

struct DenseWeightGradient::Column {
  struct Piece {
    int64_t offset;  // in x, from the first run of a voxel
    int64_t place;   // in the column
    int64_t inRun;   // floats of the run before it
    int64_t floats;
  };
  Piece pieces[kMaxWindowVectors];
  int64_t count;  // of pieces
  int64_t place;  // in the sums of a filter
  int64_t vectors;
};

// Lines of the column that is gathered next, to be fetched by the last products of a column: an equal share
// by each. No more of them fetch than it takes at one line for two voxels.
class DenseWeightGradient::Ahead {
 public:
  Ahead(const Column& column, const float* const* places, int64_t voxels, int64_t products)
      : places_(places), voxels_(voxels) {
    for (int64_t i = 0; i < column.count; ++i) {
      for (int64_t at = 0; at < column.pieces[i].floats; at += kLineFloats)
        lines_[count_++] = column.pieces[i].offset + at;
    }
    products_ = std::min(products, 2 * count_);
  }

  int64_t products() const { return products_; }

  void share(int64_t product, WeightGradientTile& tile) const {
    const int64_t line = product * count_ / products_;
    const int64_t first = divideUp(line * products_, count_), end = divideUp((line + 1) * products_, count_);
    const int64_t from = voxels_ * (product - first) / (end - first),
                  to = voxels_ * (product + 1 - first) / (end - first);
    tile.ahead = places_ + from;
    tile.aheadOffset = lines_[line];
    tile.aheadStep =
        static_cast<uint64_t>(2 * (to - from)) * kAheadUnit / static_cast<uint64_t>(*tile.voxels);
  }

 private:
  const float* const* const places_;
  const int64_t voxels_;
  // Floats from the place of a voxel; a vector has one line at most.
  int64_t lines_[kMaxWindowVectors], count_ = 0, products_;
};

int64_t DenseWeightGradient::packedChannels() const {
  const int64_t block = weightGradientKernels().maxChannels;
  return divideUp(problem_.K, block) * block;
}

int64_t DenseWeightGradient::chunks() const {
  return divideUp(divideUp(voxels_, slabs_), kColumnFloats / (kMaxWindowVectors * lanes_));
}

DenseWeightGradient::Chunk DenseWeightGradient::chunkOf(int64_t slab, int64_t index) const {
  const int64_t begin = voxels_ * slab / slabs_, length = voxels_ * (slab + 1) / slabs_ - begin;
  const int64_t first = length * index / chunks();
  return {begin + first, length * (index + 1) / chunks() - first};
}

DenseWeightGradient::Column DenseWeightGradient::columnOf(int64_t index) const {
  const int64_t vectors = runs_ * runVectors_;
  const int64_t first = vectors * index / columns(), end = vectors * (index + 1) / columns();
  Column column;
  column.count = 0;
  column.place = first * lanes_;
  column.vectors = end - first;
  for (int64_t at = first, next; at < end; at = next) {
    const int64_t run = at / runVectors_, inRun = at % runVectors_ * lanes_;
    next = std::min(end, (run + 1) * runVectors_);
    column.pieces[column.count++] = {runOffset(run) + inRun, (at - first) * lanes_, inRun,
                                     std::min(run_ - inRun, (next - at) * lanes_)};
  }
  return column;
}

// [voxels]: the first run of each.
void DenseWeightGradient::listPlaces(const float* x, const Chunk& chunk, const float** places) const {
  for (int64_t voxel = 0; voxel < chunk.voxels;) {
    const float* const row = placeOf(x, chunk.first + voxel);
    const int64_t left = problem_.Q - (chunk.first + voxel) % problem_.Q;
    for (int64_t i = 0; i < left && voxel < chunk.voxels; ++i) places[voxel++] = row + i * voxelPitch();
  }
}

// [voxels][vectors of the column][lanes]
void DenseWeightGradient::gather(const Column& column, const Chunk& chunk, const float* const* places,
                                 const SourceNorm* norm, float* to) const {
  const int64_t width = column.vectors * lanes_;
  for (int64_t voxel = 0, count; voxel < chunk.voxels; voxel += count, to += count * width) {
    count = std::min(chunk.voxels - voxel, problem_.Q - (chunk.first + voxel) % problem_.Q);
    for (int64_t i = 0; i < column.count; ++i) {
      const Column::Piece& piece = column.pieces[i];
      const float* const from = places[voxel] + piece.offset;
      if (norm) {
        const SourceNorm own{norm->mean + piece.inRun, norm->scale + piece.inRun, norm->shift + piece.inRun};
        denseKernels().normalizeRuns(to + piece.place, width, from, voxelPitch(), count, piece.floats, own);
      } else {
        weightGradientKernels().packWindows(to + piece.place, width, from, voxelPitch(), count, piece.floats);
      }
    }
  }
}

// [blocks][voxels][channels of a block]; some of the channels, from the first of a block on.
void DenseWeightGradient::packGradients(const float* dy, const Chunk& chunk, int64_t firstChannel,
                                        int64_t channels, float* to) const {
  const WeightGradientKernels& kernels = weightGradientKernels();
  const int64_t pitch = problem_.yVoxel();
  kernels.packGradients(to + firstChannel * chunk.voxels, chunk.voxels * kernels.maxChannels,
                        dy + chunk.first * pitch + firstChannel, pitch, chunk.voxels, channels);
}

void DenseWeightGradient::packAll(const float* dy, float* packed) const {
  constexpr int64_t kTaskChannels = 64;
  const int64_t parts = divideUp(problem_.K, kTaskChannels);
  parallelFor(slabs_ * chunks() * parts, [&](int64_t task) {
    const Chunk chunk = chunkOf(task / parts / chunks(), task / parts % chunks());
    const int64_t first = task % parts * kTaskChannels;
    packGradients(dy, chunk, first, std::min(kTaskChannels, problem_.K - first),
                  packed + chunk.first * packedChannels());
  });
}

void DenseWeightGradient::sumPacked(const ConvolutionSource& x, const float* dy, const float* packed,
                                    int64_t task, float* sums) const {
  const WeightGradientKernels& kernels = weightGradientKernels();
  const int64_t block = kernels.maxChannels, mostVoxels = divideUp(divideUp(voxels_, slabs_), chunks());
  const Part part = partOf(task, columns(), block);
  const int64_t room = kColumnFloats + (packed ? 0 : mostVoxels * packedChannels());
  float* const gathered = threadScratch<Line>(static_cast<size_t>(divideUp(room, kLineFloats)))->floats;
  float* const ownFactors = gathered + kColumnFloats;
  const float** places = threadScratch<const float*>(static_cast<size_t>(2 * mostVoxels));
  const float** nextPlaces = places + mostVoxels;

  const float *windows[kMaxWindowVectors], *gradients;
  Chunk chunk = chunkOf(part.slab, 0);
  listPlaces(x.data, chunk, places);
  Column column = columnOf(part.firstColumn);
  WeightGradientTile tile;
  tile.windows = windows;
  tile.gradients = &gradients;
  tile.voxels = &chunk.voxels;
  tile.rows = 1;
  tile.gradientStride = block;
  tile.sumStride = filterSums();
  for (int64_t index = 0; index < chunks(); ++index) {
    Chunk next{};
    if (index + 1 < chunks()) {
      next = chunkOf(part.slab, index + 1);
      listPlaces(x.data, next, nextPlaces);
    }
    if (!packed) packGradients(dy, chunk, 0, problem_.K, ownFactors);
    const float* const factors = packed ? packed + chunk.first * packedChannels() : ownFactors;
    tile.add = index > 0;
    for (int64_t c = part.firstColumn; c < part.endColumn; ++c) {
      gather(column, chunk, places, x.norm, gathered);
      for (int64_t v = 0; v < column.vectors; ++v) windows[v] = gathered + v * lanes_;
      tile.windowStride = column.vectors * lanes_;
      const bool wraps = c + 1 == part.endColumn;
      const Column following = columnOf(wraps ? part.firstColumn : c + 1);
      int64_t left = divideUp(part.endChannel - part.firstChannel, block);
      const Ahead ahead(following, wraps && next.voxels > 0 ? nextPlaces : places,
                        wraps ? next.voxels : chunk.voxels, left);
      for (int64_t channel = part.firstChannel; left > 0; channel += block, --left) {
        const bool fetches = left <= ahead.products();
        if (fetches) ahead.share(ahead.products() - left, tile);
        gradients = factors + channel * chunk.voxels;
        tile.sums = sums + (part.slab * problem_.K + channel) * filterSums() + column.place;
        const auto& kernel = fetches ? kernels.fetching : kernels.sum[0];
        kernel[std::min(block, part.endChannel - channel) - 1][column.vectors - 1](tile);
      }
      column = following;
    }
    chunk = next;
    std::swap(places, nextPlaces);
  }
}

}  // namespace voxgrad::cpu
