// Mean and variance of the columns of a sum. In double precision, where the difference of the two sums below
// loses nothing that a float holds.
#pragma once

#include "sums.h"

namespace voxgrad::cuda {

template <class T>
struct AddSquares {
  const T* x;
  int64_t rows, channels;
  __device__ void operator()(int64_t set, int64_t row, int64_t channel, double (&sums)[2]) const {
    const double value = float{x[(set * rows + row) * channels + channel]};
    sums[0] += value;
    sums[1] += value * value;
  }
};

__device__ inline void storeMoments(double sum, double square, double count, float* moments) {
  const double mean = sum / count, variance = square / count - mean * mean;
  moments[0] = static_cast<float>(mean);
  // A comparison that is false for NaN: what is not finite in x shows in the moments.
  moments[1] = variance < 0 ? 0.0f : static_cast<float>(variance);
}

struct StoreMoments {
  double count;
  int64_t channels;
  float* moments;
  __device__ void operator()(int64_t set, int64_t channel, const double (&totals)[2]) const {
    storeMoments(totals[0], totals[1], count, moments + (set * channels + channel) * 2);
  }
};

}  // namespace voxgrad::cuda
