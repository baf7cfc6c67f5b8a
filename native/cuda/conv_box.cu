#include <algorithm>

#include "conv_box.h"
#include "tensor_map.h"

namespace voxgrad::cuda {
namespace {

// The next larger size that needs fewer blocks, from one that needs as many as all between.
int64_t larger(int64_t extent, int64_t size) {
  const int64_t blocks = divideUp(extent, size);
  return blocks == 1 ? extent + 1 : divideUp(extent, blocks - 1);
}

}  // namespace

BoxPlan boxPlanOf(const Gather& gather, int most) {
  int64_t extent[4] = {gather.batch}, widest[3];
  for (int i = 0; i < 3; i++) {
    const Lattice lattice = gather.axis[i].lattice(gather.transposed, 0);
    extent[i + 1] = lattice.count;
    widest[i] = std::max<int64_t>(1, std::min<int64_t>(lattice.count, mostOfBox / lattice.sourceStep));
  }
  BoxPlan best{};
  int64_t fewest = INT64_MAX;
  for (int64_t w = 1; w <= std::min<int64_t>(widest[2], most); w = larger(extent[3], w))
    for (int64_t h = 1; h <= std::min(widest[1], most / w); h = larger(extent[2], h))
      for (int64_t d = 1; d <= std::min(widest[0], most / w / h); d = larger(extent[1], d)) {
        const int64_t size[4] = {std::min(extent[0], most / w / h / d), d, h, w};
        int64_t blocks[4], count = 1;
        for (int i = 0; i < 4; i++) {
          blocks[i] = divideUp(extent[i], size[i]);
          if (__builtin_mul_overflow(count, blocks[i], &count)) count = INT64_MAX;
        }
        if (count > fewest) continue;
        fewest = count;
        for (int i = 0; i < 4; i++) {
          best.box[i] = static_cast<int>(size[i]);
          best.blocks[i] = static_cast<int>(blocks[i]);
        }
      }
  return best;
}

}  // namespace voxgrad::cuda
