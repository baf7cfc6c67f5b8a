#include "conv3d_thin.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {

bool isThin(const Conv3dProblem& p) {
  // Summing a vector costs about as much as four multiply-adds.
  return p.groups == 1 && isPointwise(p) && p.K <= kMaxThinChannels && 4 * p.K <= thinKernels().lanes;
}

Thin::Thin(const Conv3dProblem& p) : problem_(p), voxels_(p.N * p.D * p.H * p.W) {}

void Thin::pack(const float* w, float* packed) const { std::copy_n(w, packedFloats(), packed); }

void Thin::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
               void*) const {
  constexpr int64_t kTaskFloats = 1 << 16;
  const int64_t lanes = thinKernels().lanes, C = problem_.C, K = problem_.K;
  const int64_t voxelsPerTask = divideUp(divideUp(kTaskFloats, C), lanes) * lanes;
  parallelFor(divideUp(voxels_, voxelsPerTask), [&](int64_t task) {
    const int64_t first = task * voxelsPerTask;
    const int64_t voxels = std::min(voxelsPerTask, voxels_ - first);
    thinKernels().run({source.data + first * C, packed, bias, output + first * K, voxels, C, K, source.norm});
  });
}

}  // namespace voxgrad::cpu
