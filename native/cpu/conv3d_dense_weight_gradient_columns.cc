// Weight gradients of blockwise convolutions whose runs are long: chunk by chunk, x is gathered in columns of
// vectors, so that voxels whose rows lie a power of two apart do not compete for the same lines of the
// first-level cache, while a column meets every channel of dy.
#include "../core/thread_pool.h"
#include "conv3d_dense.h"
#include "conv3d_dense_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

// A column of a chunk just about fills the first-level cache. Shorter ones add to the sums more often than
// pays.
constexpr int64_t kChunkVoxels = 256;

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
  Piece pieces[kMaxProductVectors];
  int64_t count;  // of pieces
  int64_t place;  // in the sums of a filter
  int64_t vectors;
};

int64_t DenseWeightGradient::columns() const {
  return divideUp(runs_ * runVectors_, denseSumKernels().columnVectors);
}

int64_t DenseWeightGradient::chunks() const { return divideUp(divideUp(voxels_, slabs_), kChunkVoxels); }

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

// [voxels][vectors of the column][lanes]
void DenseWeightGradient::gather(const Column& column, const Chunk& chunk, const ConvolutionSource& x,
                                 float* to) const {
  const int64_t width = column.vectors * lanes_;
  for (int64_t voxel = 0, count; voxel < chunk.voxels; voxel += count, to += count * width) {
    const float* const place = placeOf(x.data, chunk.first + voxel);
    count = std::min(chunk.voxels - voxel, problem_.Q - (chunk.first + voxel) % problem_.Q);
    for (int64_t i = 0; i < column.count; ++i) {
      const Column::Piece& piece = column.pieces[i];
      const float* const from = place + piece.offset;
      if (x.norm) {
        const SourceNorm own{x.norm->mean + piece.inRun, x.norm->scale + piece.inRun,
                             x.norm->shift + piece.inRun};
        denseKernels().normalizeRuns(to + piece.place, width, from, voxelPitch(), count, piece.floats, own);
      } else {
        weightGradientKernels().packWindows(to + piece.place, width, from, voxelPitch(), count, piece.floats);
      }
    }
  }
}

// Lines of the column that is gathered next are fetched by the last products of a column, one of each voxel
// by each, as far as its chunk is as regular and as large as the one that is there.
void DenseWeightGradient::sumColumns(const ConvolutionSource& x, const float* dy, int64_t task,
                                     float* sums) const {
  const DenseSumKernels& kernels = denseSumKernels();
  const Part part = partOf(task, columns());
  const int64_t channels = part.endChannel - part.firstChannel;
  const int64_t room = kChunkVoxels * kernels.columnVectors * lanes_;
  float* const gathered = threadScratch<Line>(static_cast<size_t>(divideUp(room, kLineFloats)))->floats;

  DenseProduct product = {};
  product.factorStride = problem_.yVoxel();
  product.sumStride = filterSums();
  product.runs = gathered;
  product.nextLine = rowPitch();
  Chunk chunk = chunkOf(part.slab, 0);
  for (int64_t index = 0; index < chunks(); ++index) {
    const Chunk nextChunk = chunkOf(part.slab, std::min(index + 1, chunks() - 1));
    product.fresh = index == 0;
    for (int64_t c = part.firstColumn; c < part.endColumn; ++c) {
      const Column column = columnOf(c);
      gather(column, chunk, x, gathered);
      const bool wraps = c + 1 == part.endColumn;
      const Column following = columnOf(wraps ? part.firstColumn : c + 1);
      const Chunk& target = wraps ? nextChunk : chunk;
      const Patch ahead = patchAt(target.first, target.voxels);
      const bool fetches = ahead.lines * ahead.voxels == chunk.voxels;
      product.lines = fetches ? ahead.lines : 1;
      product.voxels = chunk.voxels / product.lines;
      product.runStride = column.vectors * lanes_;
      product.runLine = product.voxels * product.runStride;
      const float* const place = placeOf(x.data, target.first);

      const int64_t blocks = divideUp(channels, kernels.maxProductChannels[column.vectors - 1]);
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t from = part.firstChannel + channels * b / blocks;
        const int64_t count = part.firstChannel + channels * (b + 1) / blocks - from;
        product.factors = dy + chunk.first * problem_.yVoxel() + from;
        product.factorsAhead = c == part.firstColumn ? factorsAhead(from, count) : 0;
        product.sums = sums + (part.slab * problem_.K + from) * filterSums() + column.place;
        const int64_t line = lineOf(following, blocks - 1 - b);
        product.next = fetches && line >= 0 ? place + line : gathered;
        product.nextStride = fetches && line >= 0 ? voxelPitch() : 0;
        kernels.product[column.vectors - 1][count - 1](product);
      }
    }
    chunk = nextChunk;
  }
}

// Floats from the place of a voxel to the index-th line of its part of a column; -1 behind the last.
int64_t DenseWeightGradient::lineOf(const Column& column, int64_t index) {
  for (int64_t i = 0; i < column.count; ++i) {
    const Column::Piece& piece = column.pieces[i];
    const int64_t lines = divideUp(piece.floats, kLineFloats);
    if (index < lines) return piece.offset + index * kLineFloats;
    index -= lines;
  }
  return -1;
}

}  // namespace voxgrad::cpu
