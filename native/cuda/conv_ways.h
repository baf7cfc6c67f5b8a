// The ways of computing a convolution or input gradient, of which a table by shape takes one unless the step
// names another. Each gives the same bits on every device that has it; between two of them sums may differ in
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
  enum Kind { direct, stem, head, fold, halo, gemm, warpgroups, cudnn } kind;
  int tile = 0;      // of the matrix product
  int parts = 1;     // of its depth
  size_t bytes = 0;  // of cuDNN's workspace
  // Of cuDNN: whether its kernel makes call.moments as well.
  bool sums = false;

  // What plans print; it lives as long as the process.
  const char* name(const Gather& gather, Precision precision) const;
  // `moments`: for call.moments, which any way makes, some of them of the output that they have stored.
  size_t workspace(const Gather& gather, Precision precision, bool moments) const;
  bool sumsInStore() const { return kind != direct && kind != head && kind != cudnn; }
  // Whether it normalises the source as it loads it, where the call says so. A matrix product would do that
  // once for every tap, which takes longer than a pass of its own. Of cuDNN's ways there are only those that
  // do what is asked.
  bool normalizes() const { return kind == fold || kind == halo || kind == cudnn; }
  void run(GatherCall call, void* workspace) const;

 private:
  // Of what it computes with itself, and of blocks that sum what they store.
  size_t ownBytes(const Gather& gather) const;
  int64_t chunks(const Gather& gather, Precision precision) const;
  // `whole`: operands lie so that they can be read by the chunk.
  void compute(const GatherCall& call, bool whole, void* workspace) const;
};

// The first is what the table takes. Of those that normalise, which may be none, it is the first one that
// does.
std::vector<GatherWay> waysOf(const Gather& gather, Precision precision, const Extras& extras);
// The one that the step's attribute `way` numbers, or the first. Throws Error("ERR_PLAN") where there is
// none.
GatherWay wayOf(const Step& step, const Gather& gather, const Extras& extras);
// That number, of `ways` ones.
size_t wayNumber(const Step& step, size_t ways);

}  // namespace voxgrad::cuda
