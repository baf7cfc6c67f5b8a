// The order in which dense products read their weights: column by column of output vectors.
#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {

void packColumns(const Conv3dProblem& p, const float* w, float* packed) {
  const int64_t lanes = denseKernels().lanes, filter = p.taps() * p.C;
  parallelFor(divideUp(p.K, kMaxDenseVectors * lanes), [&](int64_t column) {
    const int64_t first = column * kMaxDenseVectors * lanes;
    const int64_t width = std::min(kMaxDenseVectors * lanes, divideUp(p.K - first, lanes) * lanes);
    for (int64_t at = 0; at < width; at += lanes) {
      conv3dKernels().packTransposed(packed + first * filter + at, width, w + (first + at) * filter, filter,
                                     std::min(lanes, p.K - first - at), filter);
    }
  });
}

void packGradientColumns(const Conv3dProblem& p, const float* w, float* packed) {
  const int64_t lanes = denseKernels().lanes, run = p.T * p.C, filter = p.taps() * p.C;
  const int64_t allVectors = divideUp(run, lanes), columns = divideUp(allVectors, kMaxDenseVectors);
  parallelFor(p.R * p.S * columns, [&](int64_t task) {
    const int64_t output = task / columns, first = task % columns * kMaxDenseVectors;
    const int64_t vectors = std::min<int64_t>(kMaxDenseVectors, allVectors - first);
    float* const to = packed + (output * allVectors + first) * p.K * lanes;
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t channel = (first + v) * lanes, count = std::min(lanes, run - channel);
      conv3dKernels().packRows(to + v * lanes, vectors * lanes, w + output * run + channel, filter, count,
                               p.K);
    }
  });
}

// Layout [outputs][columns][segments][steps][vectors of the column][lanes].
void Dense::pack(const float* w, float* packed) const {
  if (inputGradient_)
    packGradientColumns(problem_, w, packed);
  else
    packColumns(problem_, w, packed);
}

}  // namespace voxgrad::cpu
