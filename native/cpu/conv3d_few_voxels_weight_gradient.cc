#include "conv3d_few_voxels_weight_gradient.h"

#include <algorithm>

#include "../core/thread_pool.h"
#include "conv3d_geometry.h"
#include "isa.h"

namespace voxgrad::cpu {

void FewVoxelsWeightGradient::run(const float* x, const float* dy, float* dw, void*) const {
  const Conv3dProblem& p = problem_;
  const FewVoxelsKernels& kernels = fewVoxelsKernels();
  const int64_t block = kernels.weightGradientFilters, voxels = p.N * p.Z * p.P * p.Q;
  const VoxelPairs pairs(p, p.C, block, false);
  parallelFor(divideUp(p.K, block), [&](int64_t task) {
    const int64_t k = task * block;
    FilterTapGradient tap;
    tap.source = x;
    tap.nextFilter = p.taps() * p.C;
    tap.filters = std::min(block, p.K - k);
    tap.channels = p.C;
    // Where they lie, channels of voxels a power of two apart share a few sets of the first-level cache.
    float* const gradients = threadScratch<float>(static_cast<size_t>(voxels * block));
    for (int64_t voxel = 0; voxel < voxels; ++voxel)
      std::copy_n(dy + voxel * p.K + k, tap.filters, gradients + voxel * block);
    tap.outputGradient = gradients;
    pairs.forEachTap([&](int64_t index, const VoxelPair* own, int64_t count) {
      tap.pairs = own;
      tap.count = count;
      tap.weights = dw + (k * p.taps() + index) * p.C;
      kernels.weightGradient(tap);
    });
  });
}

}  // namespace voxgrad::cpu
