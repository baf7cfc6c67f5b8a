#include "conv3d_thin_taps.h"

#include "conv3d_dense.h"

namespace voxgrad::cpu {

bool isThinWithTaps(const Conv3dProblem& p, bool inputGradient) {
  const int64_t reduced = inputGradient ? p.K : p.C, produced = inputGradient ? p.C : p.K;
  if (p.groups != 1 || produced > kMaxThinTapsChannels || isBlockwise(p)) return false;
  // Multiply-adds of a vector for each voxel; summing the lanes of one costs about as much, and the other
  // kernels fill half a vector where that is enough.
  const int64_t lanes = thinTapsKernels().lanes;
  const int64_t phases = inputGradient ? p.stride[0] * p.stride[1] * p.stride[2] : 1;
  const int64_t taps = divideUp(p.taps(), phases);
  return 2 * produced * (taps * divideUp(reduced, lanes) + 1) <
         taps * reduced * divideUp(2 * produced, lanes);
}

ThinWithTaps::ThinWithTaps(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      reduced_(inputGradient ? p.K : p.C),
      produced_(inputGradient ? p.C : p.K),
      sources_(p, inputGradient, reduced_, produced_ * thinTapsKernels().lanes) {}

size_t ThinWithTaps::packedFloats() const {
  const int64_t lanes = thinTapsKernels().lanes;
  return static_cast<size_t>(divideUp(reduced_, lanes) * lanes * problem_.taps() * produced_);
}

void ThinWithTaps::pack(const float* w, float* packed) const {
  const int64_t lanes = thinTapsKernels().lanes, taps = problem_.taps(), C = problem_.C;
  std::fill_n(packed, packedFloats(), 0.0f);
  for (int64_t k = 0; k < problem_.K; ++k) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t c = 0; c < C; ++c) {
        const int64_t from = inputGradient_ ? k : c, to = inputGradient_ ? c : k;
        packed[((from / lanes * taps + tap) * produced_ + to) * lanes + from % lanes] =
            w[(k * taps + tap) * C + c];
      }
    }
  }
}

void ThinWithTaps::run(const float* source, const float* packed, const float* bias, float* output,
                       void*) const {
  constexpr int64_t kTaskFloats = 1 << 16;
  const ThinTapsKernels& kernels = thinTapsKernels();
  sources_.run({kernels.run[produced_ - 1], kernels.maxRows[produced_ - 1], kTaskFloats, produced_,
                problem_.taps() * produced_ * kernels.lanes, true},
               source, packed, bias, output);
}

}  // namespace voxgrad::cpu
