// Convolutions as operation graphs of cuDNN, with the sum of a bias in the same kernel where it has one.
#pragma once

#include <memory>

#include "../core/conv_step.h"
#include "cudnn.h"

namespace voxgrad::cuda::cudnn {

enum class Pass { forward, inputGradient, weightGradient };

// What a graph computes: y from x and w, or dx from dy (here y) and w, or dw from x and dy. Batch and
// channels come first in the extents, whatever the order in memory, where channels are innermost. Slices have
// two axes.
struct Problem {
  Pass pass;
  Precision precision;
  bool bias;     // added to what is computed
  bool wide;     // the result is of floats in every precision, as dw always
  bool flipped;  // taps in reverse order
  int axes;      // of space
  // Two for batch and channels (of filters: both kinds of channels, those of a group), then one for each
  // axis.
  int64_t x[5], w[5], y[5];
  int64_t pad[3], stride[3], dilation[3];

  bool operator<(const Problem& other) const;
};

// cuDNN's way of computing a problem.
class Plan {
 public:
  // The first that cuDNN proposes of those that keep the precision, and give the same bits every time unless
  // VOXGRAD_DETERMINISTIC is `off`; made once for a problem. Null where there is none.
  static const Plan* of(const Problem& problem);

  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  size_t workspace() const;
  // x, w and y on the device, aligned to 16 bytes; of bf16 in that precision, but for the bias and what is
  // `wide`.
  void run(const void* x, const void* w, const void* y, const float* bias, void* workspace) const;

 private:
  struct State;
  explicit Plan(std::unique_ptr<State> state);
  static std::unique_ptr<Plan> make(const Problem& problem);

  std::unique_ptr<State> state_;
};

}  // namespace voxgrad::cuda::cudnn
