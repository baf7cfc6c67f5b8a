#include <algorithm>

#include "conv_split.h"
#include "conv_tile.h"
#include "floats.h"
#include "moments.h"

namespace voxgrad::cuda {
namespace {

// Fewer blocks than that leave a large device idle; as many are wanted. No part is shorter than its start and
// its sum are worth.
constexpr int64_t fewBlocks = 132, wantedBlocks = 264;
constexpr int64_t leastSteps = 4, mostParts = 16;

// Adds up the parts of EACH neighbouring numbers, and the bias. Yields them as they are stored.
template <int EACH>
struct AddParts {
  const float* partial;
  int parts;
  int64_t count;
  int channels;
  const float* bias;  // may be null
  void* output;
  bool narrow;  // whether that is bf16

  __device__ Floats<EACH> operator()(int64_t i) const {
    Floats<EACH> sum = *alignedFor<const Floats<EACH>>(partial + i * EACH);
    for (int part = 1; part < parts; part++) {
      const auto more = *alignedFor<const Floats<EACH>>(partial + part * count + i * EACH);
      for (int k = 0; k < EACH; k++) sum.of[k] += more.of[k];
    }
    if (bias != nullptr)
      for (int k = 0; k < EACH; k++) sum.of[k] += bias[(i * EACH + k) % channels];
    for (int k = 0; k < EACH; k += 2) {
      const bool both = k + 1 < EACH;
      storePair<Precision::bf16>(output, narrow, i * EACH + k, both, sum.of[k], sum.of[both ? k + 1 : k]);
    }
    for (int k = 0; k < EACH && narrow; k++) sum.of[k] = Bf16(sum.of[k]);
    return sum;
  }
};

// The same, a number at a time, for the moments of the result.
struct AddPartsAndSum {
  AddParts<1> add;
  __device__ void operator()(int64_t, int64_t voxel, int64_t channel, double (&sums)[2]) const {
    const double value = add(voxel * add.channels + channel).of[0];
    sums[0] += value;
    sums[1] += value * value;
  }
};

int64_t outputsOf(const Gather& gather) { return gather.outputVoxels() * gather.groups * gather.columns; }

// Parts that have enough to do each.
int64_t mostPartsOf(const Gather& gather, Precision precision) {
  const int64_t atOnce =
      precision == Precision::bf16 ? tileDepth<Precision::bf16> : tileDepth<Precision::f32>;
  int64_t depth = gather.depth;
  for (const GatherAxis& axis : gather.axis) depth *= axis.lattice(gather.transposed, 0).taps;
  const int64_t parts = std::min(divideUp(depth, atOnce) / leastSteps, mostParts);
  return std::max<int64_t>(parts, 1);
}

}  // namespace

int usualParts(const Gather& gather, Precision precision, int64_t blocks) {
  if (blocks >= fewBlocks) return 1;
  return static_cast<int>(std::min(divideUp(wantedBlocks, blocks), mostPartsOf(gather, precision)));
}

std::vector<int> partsOf(const Gather& gather, Precision precision, int64_t blocks) {
  const int64_t most = mostPartsOf(gather, precision);
  std::vector<int> all = {1};
  for (int parts = 2; parts <= most && blocks < 4 * wantedBlocks / parts; parts *= 2) all.push_back(parts);
  return all;
}

size_t splitBytes(const Gather& gather, int parts) {
  return parts == 1 ? 0 : static_cast<size_t>(parts * outputsOf(gather)) * sizeof(float);
}

void runSplit(const GatherCall& call, const PartsKernel& kernel, int parts, void* workspace) {
  if (parts == 1) return kernel.run(call, kernel.tile, 1);
  GatherCall each = call;
  each.output = workspace;
  each.narrow = false;
  each.bias = nullptr;
  each.sums = nullptr;
  kernel.run(each, kernel.tile, parts);
  const int64_t count = outputsOf(call.gather);
  const int channels = call.gather.groups * call.gather.columns;
  const auto* const partial = static_cast<const float*>(workspace);
  if (call.sums != nullptr)
    columnSums<2>(
        "addPartsAndSum", {1, count / channels, channels}, call.sums,
        AddPartsAndSum{{partial, parts, count, channels, call.bias, call.output, call.narrow}},
        StoreMoments{static_cast<double>(call.gather.outputVoxels()), call.channels(), call.moments});
  else if (count % 4 == 0)
    forEach("addParts", count / 4,
            AddParts<4>{partial, parts, count, channels, call.bias, call.output, call.narrow});
  else
    forEach("addParts", count,
            AddParts<1>{partial, parts, count, channels, call.bias, call.output, call.narrow});
}

}  // namespace voxgrad::cuda
