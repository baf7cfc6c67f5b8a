#include "conv3d_weight_gradient.h"

#include <cstring>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
WeightGradient::WeightGradient(const Conv3dProblem& p) : problem_(p), kernels_(weightGradientKernels()) {
  cPerGroup_ = p.C / p.groups;
  kPerGroup_ = p.K / p.groups;
  oneRun_ = p.T == 1 || (p.dilation[2] == 1 && p.groups == 1);
  run_ = oneRun_ ? p.T * cPerGroup_ : cPerGroup_;
  const int64_t runs = p.R * p.S * (oneRun_ ? 1 : p.T);

  // Halves waste fewer lanes on short runs but cost an insertion per vector, about an eighth of a tile.
  const int64_t lanes = kernels_.lanes;
  const double whole = static_cast<double>(runs * divideUp(run_, lanes) * 2);
  const double halves = static_cast<double>(runs * divideUp(run_, lanes / 2)) * 1.125;
  piecesPerVector_ = kernels_.sum[1][0][0] && halves < whole ? 2 : 1;
  pieceFloats_ = lanes / piecesPerVector_;
  piecesPerRun_ = divideUp(run_, pieceFloats_);
  pieces_ = runs * piecesPerRun_;
  vectors_ = divideUp(pieces_, piecesPerVector_);
  columnsPerGroup_ = divideUp(vectors_, kMaxWindowVectors);
  columns_ = columnsPerGroup_ * p.groups;
  channelBlocks_ = divideUp(kPerGroup_, kernels_.maxChannels);
  channelBlock_ = divideUp(kPerGroup_, channelBlocks_);
  channelBlocks_ = divideUp(kPerGroup_, channelBlock_);

  padLeft_ = p.pad[2];
  padRight_ =
      std::max<int64_t>(0, (p.Q - 1) * p.stride[2] + (p.T - 1) * p.dilation[2] - p.pad[2] - (p.W - 1));
  copies_ = padLeft_ > 0 || padRight_ > 0 || run_ % pieceFloats_ != 0;
  if (!copies_) padLeft_ = padRight_ = 0;

  rows_ = p.N * p.Z * p.P;
  constexpr int64_t kTasks = 96, kLeastFlops = 1 << 19;
  const int64_t worth = std::max<int64_t>(1, p.flops() / kLeastFlops);
  slabs_ = std::min({rows_, divideUp(kTasks, columns_), divideUp(worth, columns_)});
  constexpr int64_t kChunkFloats = 8192;
  rowsPerChunk_ =
      std::max<int64_t>(1, kChunkFloats / (rowFloats() / std::max<int64_t>(1, p.stride[1]) + p.Q * p.K));
}

int64_t WeightGradient::vectorsOf(int64_t column) const {
  const int64_t first = column % columnsPerGroup_ * kMaxWindowVectors;
  return std::min<int64_t>(kMaxWindowVectors, vectors_ - first);
}

WeightGradient::Piece WeightGradient::piece(int64_t index) const {
  const Conv3dProblem& p = problem_;
  const int64_t run = index / piecesPerRun_, within = index % piecesPerRun_ * pieceFloats_;
  const int64_t rowTap = oneRun_ ? run : run / p.T, t = oneRun_ ? 0 : run % p.T;
  return {rowTap / p.S,
          rowTap % p.S,
          t * p.dilation[2] - p.pad[2],
          within,
          (rowTap * p.T + t) * cPerGroup_ + within,
          std::min(pieceFloats_, run_ - within)};
}

size_t WeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(rowFloats() + kSlack);
  cursor.floats(slabs_ * sumsPerSlab());
  if (copies_) cursor.floats(problem_.N * problem_.D * problem_.H * rowFloats() + kSlack);
  return cursor.used();
}

void WeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const zeroRow = cursor.floats(rowFloats() + kSlack);
  float* const sums = cursor.floats(slabs_ * sumsPerSlab());
  std::fill_n(zeroRow, rowFloats() + kSlack, 0.0f);
  if (copies_) {
    float* const padded = cursor.floats(problem_.N * problem_.D * problem_.H * rowFloats() + kSlack);
    padRows(x, padded);
    x = padded;
  }
  parallelFor(slabs_ * columns_, [&](int64_t task) {
    const int64_t slab = task / columns_, column = task % columns_;
    sumSlab(x, zeroRow, dy, slab, column, sums + (slab * columns_ + column) * channelBlocks_ * tileFloats());
  });
  if (sumsPerSlab() * slabs_ > 65536) {
    parallelFor(columns_, [&](int64_t column) { reduceColumn(column, sums, dw); });
  } else {
    for (int64_t column = 0; column < columns_; ++column) reduceColumn(column, sums, dw);
  }
}

void WeightGradient::padRows(const float* x, float* padded) const {
  const int64_t rows = problem_.N * problem_.D * problem_.H, row = problem_.W * problem_.C;
  const int64_t left = padLeft_ * problem_.C, paddedFloats = rowFloats();
  const int64_t rowsPerTask = std::max<int64_t>(1, 16384 / paddedFloats);
  parallelFor(divideUp(rows, rowsPerTask), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * rowsPerTask);
    for (int64_t r = task * rowsPerTask; r < end; ++r) {
      float* const to = padded + r * paddedFloats;
      std::fill_n(to, left, 0.0f);
      std::memcpy(to + left, x + r * row, static_cast<size_t>(row) * sizeof(float));
      std::fill(to + left + row, to + paddedFloats, 0.0f);
    }
  });
  std::fill_n(padded + rows * paddedFloats, kSlack, 0.0f);
}

void WeightGradient::sumSlab(const float* x, const float* zeroRow, const float* dy, int64_t slab,
                             int64_t column, float* sums) const {
  const Conv3dProblem& p = problem_;
  const int64_t group = column / columnsPerGroup_;
  const int64_t vectors = vectorsOf(column), pieces = vectors * piecesPerVector_;
  Piece piecesOf[2 * kMaxWindowVectors];
  for (int64_t i = 0; i < pieces; ++i) {
    // The last vector may be half empty: its second half repeats the last piece and is thrown away.
    const int64_t first = column % columnsPerGroup_ * kMaxWindowVectors * piecesPerVector_;
    piecesOf[i] = piece(std::min(first + i, pieces_ - 1));
  }
  std::fill_n(sums, channelBlocks_ * tileFloats(), 0.0f);

  const float** const windows =
      threadScratch<const float*>(static_cast<size_t>(rowsPerChunk_ * (pieces + 2)));
  const float** const lines = windows + rowsPerChunk_ * pieces;
  const float** const gradients = lines + rowsPerChunk_;
  WeightGradientTile tile;
  tile.windows = windows;
  tile.gradients = gradients;
  int64_t* const lengths = threadScratch<int64_t>(static_cast<size_t>(rowsPerChunk_));
  std::fill_n(lengths, rowsPerChunk_, p.Q);
  tile.voxels = lengths;
  tile.windowStride = p.stride[2] * p.C;
  tile.gradientStride = p.K;
  tile.sumStride = vectors * kernels_.lanes;
  tile.add = true;

  const int64_t firstRow = rows_ * slab / slabs_, lastRow = rows_ * (slab + 1) / slabs_;
  for (int64_t chunk = firstRow; chunk < lastRow; chunk += rowsPerChunk_) {
    const int64_t chunkEnd = std::min(lastRow, chunk + rowsPerChunk_);
    tile.rows = 0;
    for (int64_t row = chunk; row < chunkEnd; ++row) {
      const int64_t n = row / (p.Z * p.P), z = row / p.P % p.Z, y = row % p.P;
      bool reached = false;
      for (int64_t i = 0; i < pieces; ++i) {
        const Piece& part = piecesOf[i];
        const int64_t d = z * p.stride[0] + part.r * p.dilation[0] - p.pad[0];
        const int64_t h = y * p.stride[1] + part.s * p.dilation[1] - p.pad[1];
        const bool inside = d >= 0 && d < p.D && h >= 0 && h < p.H;
        const float* const source = inside ? x + ((n * p.D + d) * p.H + h) * rowFloats() : zeroRow;
        windows[tile.rows * pieces + i] =
            source + (padLeft_ + part.offset) * p.C + group * cPerGroup_ + part.within;
        reached = reached || inside;
      }
      if (reached) lines[tile.rows++] = dy + row * p.Q * p.K + group * kPerGroup_;
    }
    for (int64_t block = 0; block < channelBlocks_; ++block) {
      const int64_t firstChannel = block * channelBlock_;
      const int64_t channels = std::min(channelBlock_, kPerGroup_ - firstChannel);
      for (int64_t i = 0; i < tile.rows; ++i) gradients[i] = lines[i] + firstChannel;
      tile.sums = sums + block * tileFloats();
      kernels_.sum[piecesPerVector_ - 1][channels - 1][vectors - 1](tile);
    }
  }
}

void WeightGradient::reduceColumn(int64_t column, const float* sums, float* dw) const {
  const int64_t group = column / columnsPerGroup_, filter = problem_.taps() * cPerGroup_;
  const int64_t vectors = vectorsOf(column);
  const int64_t firstPiece = column % columnsPerGroup_ * kMaxWindowVectors * piecesPerVector_;
  const int64_t endPiece = std::min(pieces_, firstPiece + vectors * piecesPerVector_);
  // Full pieces that follow one another in the sums and in the filter are copied as one.
  struct Span {
    int64_t from, weight, length;
  } spans[2 * kMaxWindowVectors];
  int64_t count = 0;
  for (int64_t i = firstPiece; i < endPiece; ++i) {
    const Piece part = piece(i);
    const int64_t from = (i - firstPiece) * pieceFloats_;
    Span* const last = count > 0 ? &spans[count - 1] : nullptr;
    if (last && last->from + last->length == from && last->weight + last->length == part.weight) {
      last->length += part.length;
    } else {
      spans[count++] = {from, part.weight, part.length};
    }
  }
  for (int64_t k = 0; k < kPerGroup_; ++k) {
    const float* const row = sums + column * channelBlocks_ * tileFloats() +
                             k / channelBlock_ * tileFloats() + k % channelBlock_ * vectors * kernels_.lanes;
    float* const filters = dw + (group * kPerGroup_ + k) * filter;
    for (int64_t i = 0; i < count; ++i) {
      const float* const from = row + spans[i].from;
      float* const to = filters + spans[i].weight;
      std::copy_n(from, spans[i].length, to);
      for (int64_t slab = 1; slab < slabs_; ++slab) {
        for (int64_t c = 0; c < spans[i].length; ++c) to[c] += from[slab * sumsPerSlab() + c];
      }
    }
  }
}

}  // namespace voxgrad::cpu
