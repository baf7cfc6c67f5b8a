// CUDA itself under nvcc, its emulation under any other compiler; and how kernels are written and launched
// here, the same in both.
//
// Rules that keep one source good for both: shared memory is dynamic and comes from sharedMemory<T>();
// kernels are launched by LAUNCH; PTX stands in ptx.h and hopper.h only, where each instruction has a second
// body.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "../emulation/cuda_runtime.h"
#endif

#include <cstdint>
#include <type_traits>

#include "../core/tensor.h"

namespace voxgrad::cuda {

// The stream on which everything is done.
cudaStream_t stream();
// Throws Error("ERR_DEVICE") naming `what` unless the runtime is content.
void check(cudaError_t error, const char* what);
// Counts a launch by the kernel's name.
void countLaunch(const char* kernel);

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t sharedBytes = 0;
};

constexpr int warpSize = 32;
constexpr unsigned fullWarp = 0xffffffffu;

inline int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The dynamic shared memory of the block; nobody has written it when a kernel begins.
template <class T>
__device__ __forceinline__ T* sharedMemory() {
#ifdef __CUDACC__
  extern __shared__ __align__(128) unsigned char voxgradSharedMemory[];
  return reinterpret_cast<T*>(voxgradSharedMemory);
#else
  return reinterpret_cast<T*>(emulation::block->shared);
#endif
}

// A place in memory that is moved as a T at once, and aligned for that: a device stops where it is not.
template <class T, class From>
__device__ __forceinline__ T* alignedFor(From* place) {
#ifndef __CUDACC__
  if (reinterpret_cast<uintptr_t>(place) % alignof(T) != 0)
    emulation::block->fail("memory that is not aligned for what is moved at once");
#endif
  return reinterpret_cast<T*>(place);
}

#ifdef __CUDACC__
// Lets a kernel have more shared memory than every kernel may: always as much as there is beside what it
// declares, so that what a recorded launch has been allowed is not taken back by a later one that needs less.
template <class... Parameters>
void allowShared(const char* name, void (*kernel)(Parameters...), size_t bytes) {
  constexpr size_t always = 48 << 10;
  if (bytes <= always) return;
  const void* const function = reinterpret_cast<const void*>(kernel);
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), name);
  cudaFuncAttributes declared;
  check(cudaFuncGetAttributes(&declared, function), name);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             most - static_cast<int>(declared.sharedSizeBytes)),
        name);
}
#endif

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, Arguments... arguments) {
  countLaunch(name);
#ifdef __CUDACC__
  allowShared(name, kernel, grid.sharedBytes);
  kernel<<<grid.blocks, grid.threads, grid.sharedBytes, stream()>>>(static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), name);
#else
  check(emulation::launchOn(stream(), name, grid.blocks, grid.threads, grid.sharedBytes,
                            [=] { kernel(static_cast<Parameters>(arguments)...); }),
        name);
#endif
}

// Before a loop of a constant number of rounds whose indices must be constants too.
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

// LAUNCH(kernel, grid, arguments...); a kernel with template arguments stands in parentheses.
#define LAUNCH(kernel, ...) ::voxgrad::cuda::launch(#kernel, kernel, __VA_ARGS__)

// Elementwise work: f(i) for every i below `count`, `f` being a small struct of pointers and numbers with a
// `__device__ void operator()(int64_t i) const`.
template <class F>
__global__ void __launch_bounds__(256) forEachKernel(int64_t count, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

// Blocks that keep a device of any size busy; work beyond them is done in strides.
constexpr int64_t mostBlocks = 132 * 16;

template <class F>
void forEach(const char* name, int64_t count, F f) {
  constexpr int threads = 256;
#ifdef __CUDACC__
  const int64_t each = threads;
#else
  const int64_t each = threads * 16;  // a fiber costs more than an element
#endif
  const auto blocks = static_cast<unsigned>(count < each                         ? 1
                                            : divideUp(count, each) < mostBlocks ? divideUp(count, each)
                                                                                 : mostBlocks);
  launch(name, forEachKernel<F>, Grid{blocks, threads}, count, f);
}

}  // namespace voxgrad::cuda
