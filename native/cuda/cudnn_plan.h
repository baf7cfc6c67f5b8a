// cuDNN's way of computing an operation graph: an engine of its own choice, ready to run.
#pragma once

#include <memory>

#include "cudnn_graph.h"

namespace voxgrad::cuda::cudnn {

// On the device, aligned to 16 bytes; null for what a problem does not have. x, w and y are of bf16 in that
// precision, but for what is `wide`; the others have one float for each channel.
struct Operands {
  const void *x, *w, *y;
  const float *bias = nullptr, *scale = nullptr, *shift = nullptr;
  const float *sums = nullptr, *squares = nullptr;
};

class Plan {
 public:
  // The first that cuDNN proposes of those that keep the precision, and give the same bits every time unless
  // VOXGRAD_DETERMINISTIC is `off`, with a GiB of workspace at most; made once for a problem. Null where
  // there is none.
  static const Plan* of(const Problem& problem);

  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  size_t workspace() const;
  void run(const Operands& operands, void* workspace) const;

 private:
  struct State;
  explicit Plan(std::unique_ptr<State> state);
  static std::unique_ptr<Plan> make(const Problem& problem, bool widens);

  std::unique_ptr<State> state_;
};

}  // namespace voxgrad::cuda::cudnn
