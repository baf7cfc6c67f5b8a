// The ways of computing a convolution or input gradient, of which a table by shape takes one unless the step
// names another. All of them give the same bits on every device; between two of them sums may differ in
// order.
#pragma once

#include <string>
#include <vector>

#include "conv_gather.h"

namespace voxgrad {
struct Step;
}

namespace voxgrad::cuda {

struct GatherWay {
  enum Kind { direct, stem, head, halo, gemm, cudnn } kind;
  int tile = 0;      // of the implicit matrix product
  int parts = 1;     // of its depth
  size_t bytes = 0;  // of cuDNN's workspace

  // What plans print; it lives as long as the process.
  const char* name(const Gather& gather, Precision precision) const;
  size_t workspace(const Gather& gather) const;
  void run(const GatherCall& call, void* workspace) const;
};

// The first is what the table takes.
std::vector<GatherWay> waysOf(const Gather& gather, Precision precision);
// The one that the step's attribute `way` numbers, or the first. Throws Error("ERR_PLAN") where there is
// none.
GatherWay wayOf(const Step& step, const Gather& gather);
// That number, of `ways` ones.
size_t wayNumber(const Step& step, size_t ways);

}  // namespace voxgrad::cuda
