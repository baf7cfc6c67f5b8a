// Per-channel work on runs of [rows, C]: elements are taken `lanes` at a time, a multiple of C that is wide
// enough to fill vector registers whatever C is, so that inner loops run over lanes with coefficients or sums
// of their own. Runs are cut into chunks whose size depends on C alone: results never depend on the thread
// count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

struct Lanes {
  int64_t channels;
  // Elements of one step of the inner loop; lane j belongs to channel j % channels.
  int64_t width;
  // Elements of one parallel task: a multiple of width.
  int64_t chunk;

  explicit Lanes(int64_t c) : channels(c), width(std::lcm(c, int64_t{16})) {
    if (width > 1024) width = c;
    while (width < 64) width *= 2;
    chunk = width * std::max<int64_t>(64, 32768 / width);
  }

  int64_t chunksOf(int64_t count) const { return (count + chunk - 1) / chunk; }
};

// Calls f(segment, begin, count, task) for the chunks of `segments` consecutive runs of `count` elements
// each; begin is the offset of the chunk from the first element of all.
template <class F>
void forEachChunk(const Lanes& lanes, int64_t segments, int64_t count, F f) {
  const int64_t chunks = lanes.chunksOf(count);
  parallelFor(segments * chunks, [&](int64_t task) {
    const int64_t segment = task / chunks, offset = task % chunks * lanes.chunk;
    f(segment, segment * count + offset, std::min(lanes.chunk, count - offset), task);
  });
}

// Workspace of channelSums<K>.
inline size_t channelSumBytes(const Lanes& lanes, int64_t segments, int64_t count, int64_t K) {
  return static_cast<size_t>(segments * lanes.chunksOf(count) * K * lanes.width) * sizeof(double);
}

// Sums K quantities over each of `segments` runs of `count` elements, channel by channel, in double
// precision: add(begin, count, sums) adds the elements of a chunk to K rows of lanes.width sums;
// emit(segment, totals) gets the K rows of totals, the first C of each row being those of the channels.
template <int K, class Add, class Emit>
void channelSums(const Lanes& lanes, int64_t segments, int64_t count, void* workspace, Add add, Emit emit) {
  double* partial = static_cast<double*>(workspace);
  const int64_t size = K * lanes.width;
  forEachChunk(lanes, segments, count, [&](int64_t, int64_t begin, int64_t length, int64_t task) {
    double* sums = partial + task * size;
    std::fill(sums, sums + size, 0.0);
    add(begin, length, sums);
  });
  const int64_t chunks = lanes.chunksOf(count);
  for (int64_t segment = 0; segment < segments; segment++) {
    double* totals = partial + segment * chunks * size;
    for (int64_t chunk = 1; chunk < chunks; chunk++)
      for (int64_t j = 0; j < size; j++) totals[j] += totals[chunk * size + j];
    for (int k = 0; k < K; k++)
      for (int64_t j = lanes.channels; j < lanes.width; j++)
        totals[k * lanes.width + j % lanes.channels] += totals[k * lanes.width + j];
    emit(segment, totals);
  }
}

}  // namespace voxgrad::cpu
