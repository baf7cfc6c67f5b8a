// Problems of convolution, and guarded buffers for them, of the stand-alone programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "../../native/core/conv_problem.h"

namespace voxgrad::test {

inline uint64_t randomState = 1;
inline float randomValue() {
  randomState = randomState * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(randomState >> 40) / 8388608.0f - 1.0f;
}
inline int64_t randomBelow(int64_t n) {
  return static_cast<int64_t>((static_cast<double>(randomValue()) + 1.0) / 2.0 * static_cast<double>(n));
}

// A 64-byte aligned array with guard words on both sides, filled with NaN.
class Buffer {
 public:
  explicit Buffer(int64_t floats) : floats_(floats) {
    const size_t bytes = (static_cast<size_t>(floats) * 4 + 2 * kGuard * 4 + 63) / 64 * 64;
    base_ = static_cast<float*>(std::aligned_alloc(64, bytes));
    for (int64_t i = 0; i < floats + 2 * kGuard; ++i)
      base_[i] = i < kGuard || i >= floats + kGuard ? kWord : NAN;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(base_); }
  float* data() { return base_ + kGuard; }
  int64_t size() const { return floats_; }
  void randomize() {
    for (int64_t i = 0; i < floats_; ++i) data()[i] = randomValue();
  }
  bool intact() const {
    for (int64_t i = 0; i < kGuard; ++i) {
      if (base_[i] != kWord || base_[floats_ + kGuard + i] != kWord) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuard = 16;
  static constexpr float kWord = 12345.0f;
  int64_t floats_;
  float* base_;
};

struct Sizes {
  int64_t x, w, y;
};
inline Sizes sizesOf(const Conv3dProblem& p) {
  return {p.N * p.D * p.H * p.W * p.C, p.K * p.taps() * (p.C / p.groups), p.N * p.Z * p.P * p.Q * p.K};
}

inline int64_t usualExtent(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t reach = in + 2 * pad - dilation * (kernel - 1) - 1;
  return reach < 0 ? 1 : reach / stride + 1;
}

inline Conv3dProblem problem(int64_t n, int64_t d, int64_t h, int64_t w, int64_t c, int64_t k, int64_t kernel,
                             int64_t stride, int64_t pad, int64_t dilation = 1, int64_t groups = 1) {
  Conv3dProblem p;
  p.N = n, p.D = d, p.H = h, p.W = w, p.C = c, p.K = k, p.groups = groups;
  // One slice is a 2-D convolution.
  const bool flat = d == 1;
  p.R = flat ? 1 : kernel, p.S = p.T = kernel;
  for (int axis = 0; axis < 3; ++axis) {
    const bool unit = flat && axis == 0;
    p.stride[axis] = unit ? 1 : stride, p.pad[axis] = unit ? 0 : pad, p.dilation[axis] = unit ? 1 : dilation;
  }
  p.Z = usualExtent(d, p.R, p.stride[0], p.pad[0], p.dilation[0]);
  p.P = usualExtent(h, kernel, stride, pad, dilation);
  p.Q = usualExtent(w, kernel, stride, pad, dilation);
  return p;
}

}  // namespace voxgrad::test
