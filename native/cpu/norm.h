// What the kernels of a normalisation share: how elements divide into sets with moments of their own, and
// coefficients spread over lanes.
#pragma once

#include <cmath>

#include "kernels.h"
#include "lanes.h"

namespace voxgrad::cpu {

// How an activation divides into sets of elements that share their moments. Moments are [sets, groups, 2].
struct Sets {
  int64_t sets, groups, channels;
  // Elements of a set over all channels, and of one group of it.
  int64_t count, groupCount;

  Sets(const Step& step, const Tensor& x, const Tensor& moments) {
    expectDType(step, x, DType::f32);
    expectDType(step, moments, DType::f32);
    expectRank(step, moments, 3);
    if (x.rank < 2 || moments.shape[2] != 2) refuse(step, "moments must be [sets, groups, 2]");
    sets = moments.shape[0];
    groups = moments.shape[1];
    channels = x.channels();
    if ((sets != 1 && sets != x.shape[0]) || channels % groups != 0)
      refuse(step, "moments " + format(moments) + " do not fit " + format(x));
    count = x.count() / sets;
    groupCount = count / groups;
  }

  int64_t groupOf(int64_t channel) const { return channel / (channels / groups); }
  // Mean and variance of a channel of a set.
  const float* momentsOf(const float* moments, int64_t set, int64_t channel) const {
    return moments + (set * groups + groupOf(channel)) * 2;
  }
};

// Reads the epsilon of a step.
inline double epsilonOf(const Step& step) {
  const double epsilon = step.attributes.number("epsilon");
  if (!(epsilon >= 0)) refuse(step, "epsilon must not be negative");
  return epsilon;
}

// The factor of a channel with these moments. Both directions take it, so that they agree where a ReLU is
// open.
inline float scaleOf(float gamma, const float* moments, double epsilon) {
  return static_cast<float>(gamma / std::sqrt(moments[1] + epsilon));
}

// Rows of coefficients in the workspace, one set after the other.
template <int K>
size_t coefficientBytes(const Sets& sets) {
  return static_cast<size_t>(sets.sets * K * Lanes(sets.channels).width) * sizeof(float);
}

// Fills K rows of lanes for each set with what f(set, channel, coefficients[K]) yields.
template <int K, class F>
const float* spreadCoefficients(const Sets& sets, const Lanes& lanes, void* workspace, F f) {
  float* rows = static_cast<float*>(workspace);
  for (int64_t set = 0; set < sets.sets; set++, rows += K * lanes.width)
    for (int64_t c = 0; c < lanes.channels; c++) {
      float values[K];
      f(set, c, values);
      for (int k = 0; k < K; k++)
        for (int64_t j = c; j < lanes.width; j += lanes.channels) rows[k * lanes.width + j] = values[k];
    }
  return static_cast<const float*>(workspace);
}

}  // namespace voxgrad::cpu
