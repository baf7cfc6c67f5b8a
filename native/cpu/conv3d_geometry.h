// Which source voxels an output voxel of a convolution, or of its input gradient, reads along each axis.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "../core/conv_problem.h"

namespace voxgrad::cpu {

// One axis of a gather: outputs first + i*outputStep for i in [0, count) read, for every j in [0, taps), the
// source voxel i*sourceStep + firstOffset + j*offsetStep with kernel tap firstTap + j*tapStep. Offsets rise
// with j. Taps that no output reaches inside the source are left out at both ends.
struct GatherAxis {
  int64_t first, outputStep, count, sourceStep, sourceExtent;
  int64_t taps, firstTap, tapStep, firstOffset, offsetStep;

  int64_t tap(int64_t j) const { return firstTap + j * tapStep; }
  int64_t offset(int64_t j) const { return firstOffset + j * offsetStep; }
  int64_t minSource() const { return firstOffset; }
  int64_t maxSource() const { return (count - 1) * sourceStep + offset(taps - 1); }
};

namespace detail {

inline void trimTaps(GatherAxis& axis) {
  const auto reached = [&axis](int64_t j) {
    const int64_t offset = axis.offset(j);
    const int64_t i = offset < 0 ? (-offset + axis.sourceStep - 1) / axis.sourceStep : 0;
    return i < axis.count && i * axis.sourceStep + offset < axis.sourceExtent;
  };
  while (axis.taps > 0 && !reached(axis.taps - 1)) --axis.taps;
  int64_t skipped = 0;
  while (skipped < axis.taps && !reached(skipped)) ++skipped;
  axis.firstTap = axis.tap(skipped);
  axis.firstOffset = axis.offset(skipped);
  axis.taps -= skipped;
}

}  // namespace detail

// The forward axis: y[i] reads x[i*stride + t*dilation - pad].
inline GatherAxis forwardAxis(int64_t source, int64_t kernel, int64_t output, int64_t stride, int64_t pad,
                              int64_t dilation) {
  GatherAxis axis{0, 1, output, stride, source, kernel, 0, 1, -pad, dilation};
  detail::trimTaps(axis);
  return axis;
}

// One phase of the input-gradient axis: the outputs h = phase + stride*i of dx read dy[p] where
// p*stride + r*dilation - pad = h. Only every (stride / gcd)-th tap divides; the others belong to other
// phases.
inline GatherAxis gradientAxis(int64_t source, int64_t kernel, int64_t output, int64_t stride, int64_t pad,
                               int64_t dilation, int64_t phase) {
  const int64_t count = (output - phase + stride - 1) / stride;
  const int64_t common = std::gcd(stride, dilation);
  const int64_t step = stride / common;
  GatherAxis axis{phase, stride, count, 1, source, 0, 0, -step, 0, dilation / common};
  int64_t lowest = 0;
  while (lowest < step && lowest < kernel && (phase + pad - lowest * dilation) % stride != 0) ++lowest;
  if (lowest < std::min(step, kernel)) {
    axis.taps = (kernel - 1 - lowest) / step + 1;
    axis.firstTap = lowest + (axis.taps - 1) * step;
    axis.firstOffset = (phase + pad - axis.firstTap * dilation) / stride;
  }
  detail::trimTaps(axis);
  return axis;
}

// The axis `a` (0 to 2: d, h, w) of a pass; `phase` counts only for input gradients.
inline GatherAxis outputAxis(const Conv3dProblem& p, bool inputGradient, int a, int64_t phase) {
  const int64_t x[3] = {p.D, p.H, p.W}, kernel[3] = {p.R, p.S, p.T}, y[3] = {p.Z, p.P, p.Q};
  return inputGradient ? gradientAxis(y[a], kernel[a], x[a], p.stride[a], p.pad[a], p.dilation[a], phase)
                       : forwardAxis(x[a], kernel[a], y[a], p.stride[a], p.pad[a], p.dilation[a]);
}

// Floats that a kernel may read behind the end of a row.
constexpr int64_t kSlack = 16;

inline int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Outputs [first, last) of an axis, of which the i-th reads the source at i*stride + offset, and inside it.
struct ReachedOutputs {
  int64_t first, last;
};

inline ReachedOutputs reachedOutputs(int64_t outputs, int64_t source, int64_t stride, int64_t offset) {
  const int64_t first = offset < 0 ? divideUp(-offset, stride) : 0;
  const int64_t last = source > offset ? std::min(outputs, divideUp(source - offset, stride)) : 0;
  return {first, std::max(first, last)};
}

// Pairs, along an axis (0 to 2: d, h, w), of an output voxel and a tap that reads inside the source, and the
// taps that have any.
struct AxisPairs {
  int64_t pairs = 0, taps = 0;
};

inline AxisPairs axisPairs(const Conv3dProblem& p, int a) {
  const int64_t x[3] = {p.D, p.H, p.W}, kernel[3] = {p.R, p.S, p.T}, y[3] = {p.Z, p.P, p.Q};
  AxisPairs inside;
  for (int64_t tap = 0; tap < kernel[a]; ++tap) {
    const ReachedOutputs own = reachedOutputs(y[a], x[a], p.stride[a], tap * p.dilation[a] - p.pad[a]);
    inside.pairs += own.last - own.first;
    inside.taps += own.first < own.last ? 1 : 0;
  }
  return inside;
}

// Bytes rounded up to the next cache line, so that every part of a workspace starts on one.
inline size_t roundToLine(size_t bytes) { return (bytes + 63) & ~size_t{63}; }

// Hands out consecutive cache-line aligned parts of a workspace; with a null base it only counts.
class WorkspaceCursor {
 public:
  explicit WorkspaceCursor(void* base) : base_(static_cast<char*>(base)) {}

  float* floats(int64_t count) {
    char* part = base_ ? base_ + used_ : nullptr;
    used_ += roundToLine(static_cast<size_t>(count) * sizeof(float));
    return reinterpret_cast<float*>(part);
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

constexpr int64_t kLineFloats = 16;

// What scratch memory is made of that begins on a cache line.
struct alignas(64) Line {
  float floats[kLineFloats];
};

// Grow-only room for the pointer tables of one thread; its content lives until the thread's next call.
template <typename T>
T* threadScratch(size_t count) {
  thread_local struct Room {
    T* data = nullptr;
    size_t size = 0;
    ~Room() { delete[] data; }
  } room;
  if (room.size < count) {
    delete[] room.data;
    room.data = nullptr;
    room.data = new T[count];
    room.size = count;
  }
  return room.data;
}

}  // namespace voxgrad::cpu
