// Loops that many kernels share: elementwise over fixed chunks, and sums whose order never depends on the
// number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

constexpr int64_t chunkElements = 16384;

// Calls f(begin, end) for consecutive ranges that cover [0, count).
template <class F>
void parallelRange(int64_t count, F f, int64_t chunk = chunkElements) {
  const int64_t chunks = (count + chunk - 1) / chunk;
  if (chunks <= 1) {
    if (count > 0) f(int64_t{0}, count);
    return;
  }
  parallelFor(chunks, [&](int64_t index) { f(index * chunk, std::min(count, (index + 1) * chunk)); });
}

inline size_t reductionBytes(int64_t count) {
  return static_cast<size_t>((count + chunkElements - 1) / chunkElements) * sizeof(double);
}

// The sum of f(i) over [0, count) in double precision: chunk by chunk, then over the chunks in order.
// `workspace` holds reductionBytes(count).
template <class F>
double orderedSum(int64_t count, void* workspace, F f) {
  double* partial = static_cast<double*>(workspace);
  parallelRange(count, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; i++) sum += f(i);
    partial[begin / chunkElements] = sum;
  });
  double total = 0;
  for (int64_t chunk = 0; chunk * chunkElements < count; chunk++) total += partial[chunk];
  return total;
}

}  // namespace voxgrad::cpu
