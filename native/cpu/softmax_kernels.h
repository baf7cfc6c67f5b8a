// Softmax over the channels, its gradient, and the squared distance between two of them; compiled once per
// instruction set. Plain data only.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// `rows` rows of `a` and, for all but softmax, `b`; `y` may be one of them.
struct SoftmaxRows {
  const float* a;
  const float* b;
  float* y;
  double* sum;
  int64_t rows;
  int channels;
  float factor;  // 1 / T
  float slope;   // of the squared distance
};

struct SoftmaxRowKernels {
  // y = softmax(a / T)
  void (*softmax)(const SoftmaxRows& part);
  // From y = a and dy = b: a (b - sum over c of a b) / T.
  void (*softmaxGradient)(const SoftmaxRows& part);
  // *sum = the squared distance of softmax(a) from softmax(b / T), over all rows and channels.
  void (*distance)(const SoftmaxRows& part);
  // y = the gradient with respect to a of `slope` times that.
  void (*distanceGradient)(const SoftmaxRows& part);
};

}  // namespace cpu
}  // namespace voxgrad
