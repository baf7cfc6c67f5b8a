// Kernels with mistakes that the emulation must show, beside the same without: planted MISTAKE prints `right`,
// `wrong`, or why the launch failed.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../../native/cuda/cooperative.h"
#include "../../native/cuda/cuda.h"
#include "../../native/cuda/ptx.h"

namespace voxgrad::cuda {
cudaStream_t stream() { return nullptr; }
void check(cudaError_t, const char*) {}
void countLaunch(const char*) {}
}  // namespace voxgrad::cuda

using namespace voxgrad::cuda;

constexpr int count = 128;

// Reverses a row through shared memory.
template <bool barrier>
__global__ void reverseKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  shared[threadIdx.x] = x[threadIdx.x];
  if constexpr (barrier) __syncthreads();
  y[threadIdx.x] = shared[count - 1 - threadIdx.x];
}

// The same with asynchronous copies of 16 bytes.
template <bool waits>
__global__ void reverseAsyncKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  if (threadIdx.x < count / 4) copyAsync<16>(shared + threadIdx.x * 4, x + threadIdx.x * 4, true);
  commitCopies();
  if constexpr (waits) waitCopies<0>();
  __syncthreads();
  y[threadIdx.x] = shared[count - 1 - threadIdx.x];
}

__global__ void dividedBarrierKernel(const float* x, float* y) {
  y[threadIdx.x] = x[count - 1 - threadIdx.x];
  if (threadIdx.x < 64) __syncthreads();
  y[threadIdx.x] += 0;
  if (threadIdx.x >= 64) __syncthreads();
}

__global__ void loneShuffleKernel(const float* x, float* y) {
  y[threadIdx.x] = x[count - 1 - threadIdx.x];
  if (threadIdx.x % 2 == 0) y[threadIdx.x] += 0 * __shfl_xor_sync(0x55555555u, x[0], 1);
}

__global__ void behindSharedKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = shared[count - 1 - threadIdx.x] + 0 * shared[threadIdx.x + 1];
}

__global__ void unwrittenKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  if (threadIdx.x > 0) shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = shared[count - 1 - threadIdx.x];
}

template <bool waits>
__global__ void reverseGridKernel(const float* x, float* between, float* y) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  between[i] = x[i];
  if constexpr (waits) gridBarrier();
  y[i] = between[count - 1 - i];
}

__global__ void dividedGridKernel(const float*, float*, float*) {
  if (blockIdx.x > 0) gridBarrier();
}

int main(int, char** arguments) {
  const std::string mistake = arguments[1];
  std::vector<float> x(count), y(count), between(count);
  for (int i = 0; i < count; i++) x[i] = static_cast<float>(i + 1);
  const Grid grid{1, count, count * sizeof(float)};
  const float* from = x.data();
  float *to = y.data(), *by = between.data();
  const Grid two{2, count / 2};
  const auto together = [&](auto kernel) { launchCooperatively("kernel", kernel, two, from, by, to); };
  try {
    if (mistake == "none") LAUNCH(reverseKernel<true>, grid, from, to);
    if (mistake == "no-barrier") LAUNCH(reverseKernel<false>, grid, from, to);
    if (mistake == "none-async") LAUNCH(reverseAsyncKernel<true>, grid, from, to);
    if (mistake == "no-wait") LAUNCH(reverseAsyncKernel<false>, grid, from, to);
    if (mistake == "divided-barrier") LAUNCH(dividedBarrierKernel, grid, from, to);
    if (mistake == "lone-shuffle") LAUNCH(loneShuffleKernel, grid, from, to);
    if (mistake == "behind-shared") LAUNCH(behindSharedKernel, grid, from, to);
    if (mistake == "unwritten") LAUNCH(unwrittenKernel, grid, from, to);
    if (mistake == "none-grid") together(reverseGridKernel<true>);
    if (mistake == "no-grid-barrier") together(reverseGridKernel<false>);
    if (mistake == "divided-grid") together(dividedGridKernel);
    if (mistake == "lone-grid") LAUNCH(reverseGridKernel<true>, two, from, by, to);
  } catch (const voxgrad::Error& error) {
    std::puts(error.what());
    return 0;
  }
  bool right = true;
  for (int i = 0; i < count; i++) right = right && y[i] == x[count - 1 - i];
  std::puts(right ? "right" : "wrong");
}
