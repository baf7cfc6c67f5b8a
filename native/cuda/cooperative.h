// Kernels whose blocks wait for each other: all of them have to be on the device at a time, so a grid is no
// larger than what fits, and its blocks go round by the size of the grid.
#pragma once

#include "cuda.h"

#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif

namespace voxgrad::cuda {

// Waits for all threads of the grid; what any of them wrote before is seen by all behind it.
#ifdef __CUDACC__
__device__ __forceinline__ void gridBarrier() { cooperative_groups::this_grid().sync(); }
#else
#define gridBarrier() ::emulation::block->gridBarrier(__LINE__)
#endif

// Blocks of a kernel that the device can have at a time, 0 where it launches none that wait for each other.
template <class... Parameters>
int cooperativeBlocks(const char* name, void (*kernel)(Parameters...), int threads, size_t sharedBytes) {
#ifdef __CUDACC__
  int device = 0, can = 0, processors = 0, each = 0;
  check(cudaGetDevice(&device), name);
  check(cudaDeviceGetAttribute(&can, cudaDevAttrCooperativeLaunch, device), name);
  if (can == 0) return 0;
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), name);
  allowShared(name, kernel, sharedBytes);
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, sharedBytes), name);
  return processors * each;
#else
  return emulation::cooperativeBlocks();
#endif
}

// As launch(), for a grid of that many blocks at most. CUDA records it as it does every launch.
template <class... Parameters, class... Arguments>
void launchCooperatively(const char* name, void (*kernel)(Parameters...), const Grid& grid,
                         Arguments... arguments) {
  countLaunch(name);
#ifdef __CUDACC__
  allowShared(name, kernel, grid.sharedBytes);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.sharedBytes;
  config.stream = stream();
  config.attrs = &attribute;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
#else
  check(emulation::launchOn(
            stream(), name, grid.blocks, grid.threads, grid.sharedBytes,
            [=] { kernel(static_cast<Parameters>(arguments)...); }, true),
        name);
#endif
}

}  // namespace voxgrad::cuda
