// Stochastic gradient descent and moving averages of one number: one formula for all kernels, so that they
// give the same bits.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

struct Sgd {
  float momentum, decay;
  __device__ float velocity(float v, float g, float p) const { return momentum * v + (g + decay * p); }
  __device__ float descend(float p, float v, float rate) const { return p - rate * v; }
  __device__ float descendNesterov(float p, float v, float g, float rate) const {
    return p - rate * velocity(v, g, p);
  }
};

inline Sgd sgdOf(const Step& step) {
  return {static_cast<float>(step.attributes.number("momentum")),
          static_cast<float>(step.attributes.number("weightDecay"))};
}

struct EmaDecay {
  const float* fed;  // where it is null, the decay is `known`
  double known;

  __device__ float next(float average, float x) const {
    const double kept = fed != nullptr ? *fed : known;
    return static_cast<float>(kept) * average + static_cast<float>(1 - kept) * x;
  }
};

}  // namespace voxgrad::cuda
