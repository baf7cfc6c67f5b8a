// Stochastic gradient descent on one number: one formula for all kernels, so that they give the same bits.
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

}  // namespace voxgrad::cuda
