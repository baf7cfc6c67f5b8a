#include "conv2d_winograd_filters.h"

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

Winograd2dTaps::Winograd2dTaps(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      lanes_(winogradKernels().lanes),
      reduced_(inputGradient ? p.K : p.C),
      produced_(inputGradient ? p.C : p.K),
      vectors_(divideUp(produced_, lanes_)) {}

Winograd2dFilters::Winograd2dFilters(const Conv3dProblem& p, bool inputGradient,
                                     const Winograd2dKernels& kernels, int64_t frequencies)
    : Winograd2dTaps(p, inputGradient), kernels_(kernels), frequencies_(frequencies) {}

size_t Winograd2dFilters::packedFloats() const {
  return static_cast<size_t>(vectors_ * frequencies_ * problem_.R * reduced_ * lanes_);
}

// Some reduced channels are transformed at a time and copied frequency by frequency: one channel would write
// a line to every frequency, all of them far apart.
void Winograd2dFilters::pack(const float* w, float* packed) const {
  constexpr int64_t kChunk = 16, kMostLanes = 16;
  const int64_t depthTaps = problem_.R, chunks = divideUp(reduced_, kChunk);
  const int64_t panels = divideUp(vectors_, kWinogradVectors);
  parallelFor(panels * chunks * depthTaps, [&](int64_t task) {
    const int64_t depthTap = task % depthTaps, first = task / depthTaps % chunks * kChunk;
    const int64_t firstVector = task / depthTaps / chunks * kWinogradVectors;
    const int64_t vectors = std::min<int64_t>(kWinogradVectors, vectors_ - firstVector);
    const int64_t count = std::min(kChunk, reduced_ - first), width = vectors * lanes_;
    const int64_t each = frequencyFloats(count, width);
    float* const chunk = threadScratch<float>(static_cast<size_t>(frequencies_ * each));
    for (int64_t i = 0; i < vectors; ++i) {
      alignas(64) float taps[kChunk * kSliceTaps * kMostLanes];
      packTaps(w, firstVector + i, first, count, depthTap, taps);
      transform(taps, count, width, each, chunk + i * lanes_);
    }
    float* const panel = packed + firstVector * frequencies_ * depthTaps * reduced_ * lanes_;
    for (int64_t f = 0; f < frequencies_; ++f) {
      std::copy_n(chunk + f * each, count * width,
                  panel + ((f * depthTaps + depthTap) * reduced_ + first) * width);
    }
  });
}

void Winograd2dTaps::packTaps(const float* w, int64_t vector, int64_t first, int64_t count, int64_t depthTap,
                              float* taps) const {
  const int64_t allTaps = problem_.taps(), filterFloats = allTaps * problem_.C;  // of one of K
  const int64_t channels = std::min(lanes_, produced_ - vector * lanes_);
  for (int64_t tap = 0; tap < kSliceTaps; ++tap) {
    const int64_t at = depthTap * kSliceTaps + tap;
    if (!inputGradient_) {
      conv3dKernels().packTransposed(taps + tap * lanes_, kSliceTaps * lanes_,
                                     w + vector * lanes_ * filterFloats + at * problem_.C + first,
                                     filterFloats, channels, count);
      continue;
    }
    // Weights [K][taps][C] already have the produced channels side by side; the taps run backwards.
    const float* const from = w + first * filterFloats + (allTaps - 1 - at) * problem_.C + vector * lanes_;
    conv3dKernels().packRows(taps + tap * lanes_, kSliceTaps * lanes_, from, filterFloats, channels, count);
  }
}

size_t Winograd2dTaps::allTaps() const {
  return static_cast<size_t>(vectors_ * problem_.R * reduced_ * kSliceTaps * lanes_);
}

void Winograd2dTaps::packAllTaps(const float* w, float* packed) const {
  constexpr int64_t kChunk = 16;
  const int64_t depthTaps = problem_.R, chunks = divideUp(reduced_, kChunk);
  parallelFor(vectors_ * chunks, [&](int64_t task) {
    const int64_t vector = task / chunks, first = task % chunks * kChunk;
    for (int64_t tap = 0; tap < depthTaps; ++tap) {
      packTaps(w, vector, first, std::min(kChunk, reduced_ - first), tap,
               packed + ((vector * depthTaps + tap) * reduced_ + first) * kSliceTaps * lanes_);
    }
  });
}

void Winograd2dFilters::transform(const float* taps, int64_t count, int64_t width, int64_t frequencyStride,
                                  float* filters) const {
  WinogradFilter filter;
  filter.taps = taps;
  filter.tapReducedStride = kSliceTaps * lanes_;
  filter.tapStride = lanes_;
  filter.reduced = count;
  filter.channels = lanes_;
  filter.filters = filters;
  filter.planeStride = 0;
  filter.frequencyStride = frequencyStride;
  filter.filterReducedStride = width;
  kernels_.filter(filter);
}

}  // namespace voxgrad::cpu
