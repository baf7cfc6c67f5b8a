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
      kernels_(stemKernels()),
      run_(p.T * p.C),
      rowTaps_(p.R * p.S),
      vectors_(divideUp(p.K, kernels_.lanes)) {
  // What a kernel reads of the gradient of a block stays in the first-level cache while it meets all taps.
  constexpr int64_t kFloats = 8192, kMostSlabs = 64;
  lines_ = std::clamp<int64_t>(kFloats / (p.Q * std::min(p.K, columnChannels())), 1, p.P);
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
  product.sumVector = rowTaps_ * run_ * kernels_.lanes;
  // What follows is fetched meanwhile, an equal share by each product.
  const int64_t voxels = product.lines * p.Q, width = columnChannels();
  const float* const gradient = dy + (plane * p.P + line) * p.Q * p.K;
  const bool last = blockOfLines + 1 == p.N * p.Z * blocksPerPlane_;
  product.next = last ? gradient : gradient + voxels * p.K;
  for (int64_t first = 0; first < p.K; first += width) {
    const int64_t channels = std::min(width, p.K - first), vectors = divideUp(channels, kernels_.lanes);
    product.gradient = gradient;
    if (p.K != vectors * kernels_.lanes) {
      float* const packed = threadScratch<Line>(static_cast<size_t>(divideUp(voxels * width, 16)))->floats;
      weightGradientKernels().packWindows(packed, vectors * kernels_.lanes, gradient + first, p.K, voxels,
                                          channels);
      product.gradient = packed;
    }
    sumColumn(product, origin, channels, sums + first * rowTaps_ * run_);
  }
}

// Every tap, of some channels of the gradient.
void StemWeightGradient::sumColumn(StemProduct& product, const float* origin, int64_t channels,
                                   float* sums) const {
  const int64_t vectors = divideUp(channels, kernels_.lanes), most = kernels_.maxFloats[vectors - 1];
  const int64_t parts = divideUp(run_, most);
  const int64_t rowBlocks = parts > 1 ? rowTaps_ : divideUp(rowTaps_, most / run_);
  const float* sources[kMaxStemFloats];
  product.sources = sources;
  product.nextStride = divideUp(channels, rowBlocks * parts);
  for (int64_t b = 0; b < rowBlocks * parts; ++b) {
    const int64_t block = b / parts, part = b % parts;
    const int64_t firstRow = rowTaps_ * block / rowBlocks, endRow = rowTaps_ * (block + 1) / rowBlocks;
    const int64_t first = run_ * part / parts, end = run_ * (part + 1) / parts;
    for (int64_t row = firstRow; row < endRow; ++row) {
      sources[row - firstRow] =
          origin + row / problem_.S * source_.tapStep(0) + row % problem_.S * source_.tapStep(1) + first;
    }
    product.sums = sums + (firstRow * run_ + first) * kernels_.lanes;
    kernels_.product[vectors - 1][end - first - 1][endRow - firstRow - 1](product);
    product.next += product.lines * product.voxels * channels / (rowBlocks * parts);
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
