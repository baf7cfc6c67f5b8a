#include <algorithm>

#include "conv_gemm.h"
#include "conv_split.h"
#include "conv_tile.h"
#include "floats.h"

namespace voxgrad::cuda {
namespace {

// Fewer blocks than that leave a large device idle; as many are wanted. No part is shorter than its start and
// its sum are worth.
constexpr int64_t fewBlocks = 132, wantedBlocks = 264;
constexpr int64_t leastSteps = 4, mostParts = 16;

// Adds up the parts of EACH neighbouring numbers, and the bias.
template <int EACH>
struct AddParts {
  const float* partial;
  int parts;
  int64_t count;
  int channels;
  const float* bias;  // may be null
  float* output;

  __device__ void operator()(int64_t i) const {
    Floats<EACH> sum = *reinterpret_cast<const Floats<EACH>*>(partial + i * EACH);
    for (int part = 1; part < parts; part++) {
      const auto more = *reinterpret_cast<const Floats<EACH>*>(partial + part * count + i * EACH);
      for (int k = 0; k < EACH; k++) sum.of[k] += more.of[k];
    }
    if (bias != nullptr)
      for (int k = 0; k < EACH; k++) sum.of[k] += bias[(i * EACH + k) % channels];
    *reinterpret_cast<Floats<EACH>*>(output + i * EACH) = sum;
  }
};

int64_t outputsOf(const Gather& gather) { return gather.outputVoxels() * gather.groups * gather.columns; }

// Parts that have enough to do each.
int64_t mostPartsOf(const Gather& gather) {
  int64_t depth = gather.depth;
  for (const GatherAxis& axis : gather.axis) depth *= axis.lattice(gather.transposed, 0).taps;
  const int64_t parts = std::min(divideUp(depth, tileDepth) / leastSteps, mostParts);
  return std::max<int64_t>(parts, 1);
}

}  // namespace

int usualParts(const Gather& gather) {
  const int64_t blocks = gemmBlocks(gather, gemmTile(gather));
  if (blocks >= fewBlocks) return 1;
  return static_cast<int>(std::min(divideUp(wantedBlocks, blocks), mostPartsOf(gather)));
}

std::vector<int> partsOf(const Gather& gather, int tile) {
  const int64_t blocks = gemmBlocks(gather, tile), most = mostPartsOf(gather);
  std::vector<int> all = {1};
  for (int parts = 2; parts <= most && blocks < 4 * wantedBlocks / parts; parts *= 2) all.push_back(parts);
  return all;
}

size_t splitBytes(const Gather& gather, int parts) {
  return parts == 1 ? 0 : static_cast<size_t>(parts * outputsOf(gather)) * sizeof(float);
}

void runSplit(const GatherCall& call, int tile, int parts, void* workspace) {
  if (parts == 1) return runGemm(call, tile, 1);
  GatherCall each = call;
  each.output = static_cast<float*>(workspace);
  each.bias = nullptr;
  runGemm(each, tile, parts);
  const int64_t count = outputsOf(call.gather);
  const int channels = call.gather.groups * call.gather.columns;
  if (count % 4 == 0 && aligned(call.output))
    forEach("addParts", count / 4, AddParts<4>{each.output, parts, count, channels, call.bias, call.output});
  else
    forEach("addParts", count, AddParts<1>{each.output, parts, count, channels, call.bias, call.output});
}

}  // namespace voxgrad::cuda
