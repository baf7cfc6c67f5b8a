#include "conv3d_thin.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {
namespace {

// Floats of x, or of dx, that a task takes.
constexpr int64_t kTaskFloats = 1 << 16;
// Outputs that the caches hold are stored at once; where stores have to wait for memory, that takes longer
// than all else.
constexpr int64_t kCachedFloats = 1 << 22;

}  // namespace

bool isThin(const Conv3dProblem& p, bool inputGradient) {
  if (p.groups != 1 || !isPointwise(p) || p.K > kMaxThinChannels) return false;
  // Sums over the lanes would cost more than lanes that are empty.
  return inputGradient || 2 * p.K <= thinKernels().lanes;
}

Thin::Thin(const Conv3dProblem& p) : problem_(p), voxels_(p.N * p.D * p.H * p.W) {}

void Thin::pack(const float* w, float* packed) const { std::copy_n(w, packedFloats(), packed); }

void Thin::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
               void*) const {
  const int64_t lanes = thinKernels().lanes, C = problem_.C, K = problem_.K;
  const int64_t voxelsPerTask = divideUp(divideUp(kTaskFloats, C), lanes) * lanes;
  parallelFor(divideUp(voxels_, voxelsPerTask), [&](int64_t task) {
    const int64_t first = task * voxelsPerTask;
    const int64_t voxels = std::min(voxelsPerTask, voxels_ - first);
    thinKernels().run[K - 1](
        {source.data + first * C, packed, bias, output + first * K, voxels, C, source.norm});
  });
}

ThinInputGradient::ThinInputGradient(const Conv3dProblem& p)
    : problem_(p),
      voxels_(p.N * p.D * p.H * p.W),
      lanes_(thinKernels().lanes),
      vectors_(divideUp(p.C, lanes_)) {}

void ThinInputGradient::pack(const float* w, float* packed) const {
  for (int64_t v = 0; v < vectors_; ++v) {
    const int64_t channels = std::min(lanes_, problem_.C - v * lanes_);
    conv3dKernels().packRows(packed + v * problem_.K * lanes_, lanes_, w + v * lanes_, problem_.C, channels,
                             problem_.K);
  }
}

size_t ThinInputGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(vectors_ * lanes_);
  return cursor.used();
}

void ThinInputGradient::run(const float* source, const float* packed, const float* bias, float* output,
                            void* workspace) const {
  const int64_t C = problem_.C, K = problem_.K;
  float* const biases = WorkspaceCursor(workspace).floats(vectors_ * lanes_);
  std::fill_n(biases, vectors_ * lanes_, 0.0f);
  if (bias) std::copy_n(bias, C, biases);
  const int64_t voxelsPerTask = divideUp(kTaskFloats, C);
  const bool fetches = voxels_ * C > kCachedFloats;
  parallelFor(divideUp(voxels_, voxelsPerTask), [&](int64_t task) {
    const int64_t first = task * voxelsPerTask;
    const int64_t voxels = std::min(voxelsPerTask, voxels_ - first);
    thinKernels().gradient[K - 1](
        {source + first * K, packed, biases, output + first * C, voxels, C, fetches});
  });
}

}  // namespace voxgrad::cpu
