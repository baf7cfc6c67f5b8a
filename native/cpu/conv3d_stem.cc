#include "conv3d_stem.h"

#include <cstring>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

PaddedSource::PaddedSource(const Conv3dProblem& p)
    : N(p.N),
      C(p.C),
      extent{p.D, p.H, p.W},
      pad{p.pad[0], p.pad[1], p.pad[2]},
      stride{p.stride[0], p.stride[1], p.stride[2]},
      dilation{p.dilation[0], p.dilation[1], p.dilation[2]} {
  const int64_t y[3] = {p.Z, p.P, p.Q}, kernel[3] = {p.R, p.S, p.T};
  for (int a = 0; a < 3; ++a) {
    const int64_t reach = (y[a] - 1) * stride[a] + (kernel[a] - 1) * dilation[a] + 1;
    padded[a] = std::max(extent[a] + pad[a], reach);
  }
}

void PaddedSource::fill(const float* x, float* to) const {
  parallelFor(N * padded[0], [&](int64_t plane) {
    fillRows(x, plane / padded[0], plane % padded[0], 0, padded[1], to + plane * padded[1] * row());
  });
}

void PaddedSource::fillRows(const float* x, int64_t n, int64_t plane, int64_t first, int64_t rows,
                            float* to) const {
  const int64_t rowFloats = extent[2] * C, left = pad[2] * C, d = plane - pad[0];
  for (int64_t h = first - pad[1]; h < first + rows - pad[1]; ++h, to += row()) {
    if (d < 0 || d >= extent[0] || h < 0 || h >= extent[1]) {
      std::fill_n(to, row(), 0.0f);
      continue;
    }
    std::fill_n(to, left, 0.0f);
    std::memcpy(to + left, x + ((n * extent[0] + d) * extent[1] + h) * rowFloats,
                static_cast<size_t>(rowFloats) * sizeof(float));
    std::fill(to + left + rowFloats, to + row(), 0.0f);
  }
}

bool isStem(const Conv3dProblem& p) {
  // Fewer channels of y would leave most lanes of a vector empty.
  const bool channels = p.groups == 1 && p.C <= 4 && 2 * p.K > denseKernels().lanes;
  if (!channels || (p.T > 1 && p.dilation[2] != 1) || p.Q < 4) return false;
  constexpr double kMostGrowth = 4, kSmall = 1 << 20;
  const PaddedSource source(p);
  double copy = static_cast<double>(p.N * p.C);
  for (const int64_t extent : source.padded) copy *= static_cast<double>(extent);
  return copy <= kMostGrowth * static_cast<double>(p.N * p.D * p.H * p.W * p.C) + kSmall;
}

StemWeightGradient::StemWeightGradient(const Conv3dProblem& p)
    : problem_(p),
      source_(p),
      kernels_(denseSumKernels()),
      run_(p.T * p.C),
      rowTaps_(p.R * p.S),
      vectors_(divideUp(p.K, kernels_.lanes)) {
  parts_ = divideUp(run_, kernels_.maxStemFloats);
  rowBlocks_ = parts_ > 1 ? rowTaps_ : divideUp(rowTaps_, kernels_.maxStemFloats / run_);
  // The gradient of a block stays in the first-level cache while it meets all taps.
  constexpr int64_t kFloats = 8192, kMostSlabs = 64;
  lines_ = std::clamp<int64_t>(kFloats / (p.Q * p.K), 1, p.P);
  blocksPerPlane_ = divideUp(p.P, lines_);
  slabs_ = std::min(kMostSlabs, p.N * p.Z * blocksPerPlane_);
}

size_t StemWeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(source_.floats());
  cursor.floats(slabs_ * slabSums());
  return cursor.used();
}

void StemWeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const padded = cursor.floats(source_.floats());
  float* const sums = cursor.floats(slabs_ * slabSums());
  source_.fill(x, padded);
  const int64_t blocks = problem_.N * problem_.Z * blocksPerPlane_;
  parallelFor(slabs_, [&](int64_t slab) {
    float* const own = sums + slab * slabSums();
    std::fill_n(own, slabSums(), 0.0f);
    for (int64_t block = blocks * slab / slabs_; block < blocks * (slab + 1) / slabs_; ++block) {
      sumLines(padded, dy, block, own);
    }
  });
  parallelFor(vectors_ * rowTaps_,
              [&](int64_t task) { reduceRow(sums, task / rowTaps_, task % rowTaps_, dw); });
}

// Layout of sums: [vectors][rowTaps][run][lanes].
void StemWeightGradient::sumLines(const float* padded, const float* dy, int64_t blockOfLines,
                                  float* sums) const {
  const Conv3dProblem& p = problem_;
  const int64_t plane = blockOfLines / blocksPerPlane_, line = blockOfLines % blocksPerPlane_ * lines_;
  const int64_t n = plane / p.Z, z = plane % p.Z;
  const float* const origin = padded + n * source_.sample() + z * source_.step(0) + line * source_.step(1);
  StemProduct product;
  product.lines = std::min(lines_, p.P - line);
  product.voxels = p.Q;
  product.sourceStride = source_.step(2);
  product.sourceLine = source_.step(1);
  product.gradientStride = p.K;
  product.gradientLine = p.Q * p.K;
  const float* sources[kMaxStemFloats];
  product.sources = sources;
  for (int64_t b = 0; b < rowBlocks_ * parts_; ++b) {
    const int64_t block = b / parts_, part = b % parts_;
    const int64_t firstRow = rowTaps_ * block / rowBlocks_, endRow = rowTaps_ * (block + 1) / rowBlocks_;
    const int64_t first = run_ * part / parts_, end = run_ * (part + 1) / parts_;
    for (int64_t row = firstRow; row < endRow; ++row) {
      sources[row - firstRow] =
          origin + row / p.S * source_.tapStep(0) + row % p.S * source_.tapStep(1) + first;
    }
    for (int64_t v = 0; v < vectors_; ++v) {
      product.gradient = dy + (plane * p.P + line) * product.gradientLine + v * kernels_.lanes;
      product.channels = std::min<int64_t>(kernels_.lanes, p.K - v * kernels_.lanes);
      product.sums = sums + ((v * rowTaps_ + firstRow) * run_ + first) * kernels_.lanes;
      kernels_.stem[end - first - 1][endRow - firstRow - 1](product);
    }
  }
}

void StemWeightGradient::reduceRow(const float* sums, int64_t vector, int64_t rowTap, float* dw) const {
  const int64_t lanes = kernels_.lanes, first = vector * lanes;
  const int64_t channels = std::min(lanes, problem_.K - first);
  const float* const row = sums + (vector * rowTaps_ + rowTap) * run_ * lanes;
  for (int64_t j = 0; j < run_; ++j) {
    for (int64_t k = 0; k < channels; ++k) {
      float sum = 0;
      for (int64_t slab = 0; slab < slabs_; ++slab) sum += row[slab * slabSums() + j * lanes + k];
      dw[((first + k) * rowTaps_ + rowTap) * run_ + j] = sum;
    }
  }
}

}  // namespace voxgrad::cpu
