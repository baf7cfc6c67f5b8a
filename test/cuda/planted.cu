// Kernels with mistakes that the emulation must show, beside the same without: planted MISTAKE prints `right`,
// `wrong`, or why the launch failed.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../../native/cuda/bf16.h"
#include "../../native/cuda/cooperative.h"
#include "../../native/cuda/hopper.h"

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
enum class Async { right, noWait, earlyRefill };

template <Async mistake>
__global__ void reverseAsyncKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  if (threadIdx.x < count / 4) copyAsync<16>(shared + threadIdx.x * 4, x + threadIdx.x * 4, true);
  commitCopies();
  if constexpr (mistake != Async::noWait) waitCopies<0>();
  __syncthreads();
  y[threadIdx.x] = shared[count - 1 - threadIdx.x];
  if constexpr (mistake != Async::earlyRefill) __syncthreads();
  copyAsync<4>(shared + threadIdx.x, x, true);
  commitCopies();
}

// The same by threads that exchange something meanwhile, so that one warp keeps step with the others or not.
template <bool barrier>
__global__ void reverseAndClearKernel(const float* x, float* y) {
  float* shared = sharedMemory<float>();
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float found = __shfl_sync(fullWarp, shared[count - 1 - threadIdx.x], threadIdx.x % warpSize);
  y[threadIdx.x] = __shfl_sync(fullWarp, found, threadIdx.x % warpSize);
  if constexpr (barrier) __syncthreads();
  shared[threadIdx.x] = 0;
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

enum class Product {
  right,
  written,
  unpublished,
  unpublishedBarrier,
  noCopyWait,
  noProductWait,
  earlyCopy,
  unswizzled,
  noFence,
  halfGroup
};

constexpr int half = count / 2, tileBytes = 64 * swizzleBytes;

// The matrix that reverses the order, as the copy engine would bring it.
__device__ void writeOrder(unsigned char* tile) {
  for (int row = threadIdx.x; row < half; row += count)
    for (int column = 0; column < half; column++) {
      const int at = (column * 2) ^ (row % 8 << 4);
      *reinterpret_cast<Bf16*>(tile + row * swizzleBytes + at) = Bf16(row + column == half - 1 ? 1.0f : 0.0f);
    }
}

// Multiplies the row's halves, as two rows of a matrix, by the matrix that reverses the order.
template <Product mistake>
__global__ void reverseByProductKernel(const __grid_constant__ TensorMap x,
                                       const __grid_constant__ TensorMap order, float* y) {
  unsigned char* const tiles = swizzledMemory();
  auto* const barrier = reinterpret_cast<uint64_t*>(tiles + 2 * tileBytes);
  constexpr bool writes = mistake == Product::written || mistake == Product::unpublished;
  if (threadIdx.x == 0) {
    makeBarrier(barrier, 1);
    if (mistake != Product::unpublishedBarrier) publish();
  }
  if (writes) writeOrder(tiles + tileBytes);
  if (mistake == Product::written) publish();
  __syncthreads();
  if (threadIdx.x == 0) {
    arriveExpecting(barrier, (writes ? 1 : 2) * tileBytes);
    copyBox(tiles, x, {0, 0, 0}, barrier);
    if (!writes) copyBox(tiles + tileBytes, order, {0, 0, 0}, barrier);
  }
  if (mistake != Product::noCopyWait) waitForPhase(barrier, 0);
  float sums[64 / 2] = {};
  if (mistake != Product::noFence) fenceProducts();
  if (mistake == Product::halfGroup && threadIdx.x >= 64) return;
  for (int k = 0; k < swizzleBytes; k += 32) {
    uint64_t a = operandAt(tiles, k);
    if (mistake == Product::unswizzled) a &= (uint64_t{1} << 62) - 1;
    multiplyBf16<64>(sums, a, operandAt(tiles + tileBytes, k));
  }
  commitProducts();
  if (mistake == Product::earlyCopy && threadIdx.x == 0) {
    arriveExpecting(barrier, tileBytes);
    copyBox(tiles, order, {0, 0, 0}, barrier);
  }
  if (mistake != Product::noProductWait) waitForProducts<0>();
  const int row = threadIdx.x / 4;
  if (row < 2)
    for (int i = 0; i < 64 / 2; i++)
      if (i % 4 < 2) y[(1 - row) * half + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
}

template <Product mistake>
static void reverseByProduct(const float* x, float* y) {
  alignas(16) static Bf16 rows[count], order[half][half];
  for (int i = 0; i < count; i++) rows[i] = Bf16(x[i]);
  for (int i = 0; i < half; i++) order[i][half - 1 - i] = Bf16(1.0f);
  const auto mapOf = [](void* data, cuuint64_t height) {
    const cuuint64_t extents[3] = {half, 1, height}, strides[2] = {swizzleBytes, swizzleBytes};
    const cuuint32_t box[3] = {half, 1, 64}, steps[3] = {1, 1, 1};
    TensorMap map;
    if (cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, data, extents, strides, box, steps,
                               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                               CU_TENSOR_MAP_L2_PROMOTION_NONE,
                               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
      throw voxgrad::Error("ERR_DEVICE", "no tensor map");
    return map;
  };
  LAUNCH(reverseByProductKernel<mistake>, (Grid{1, count, 2 * tileBytes + swizzleAlignment + 8}),
         mapOf(rows, 2), mapOf(order, half), y);
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
    if (mistake == "none-async") LAUNCH(reverseAsyncKernel<Async::right>, grid, from, to);
    if (mistake == "no-wait") LAUNCH(reverseAsyncKernel<Async::noWait>, grid, from, to);
    if (mistake == "early-refill") LAUNCH(reverseAsyncKernel<Async::earlyRefill>, grid, from, to);
    if (mistake == "none-ahead") LAUNCH(reverseAndClearKernel<true>, grid, from, to);
    if (mistake == "ahead") LAUNCH(reverseAndClearKernel<false>, grid, from, to);
    if (mistake == "divided-barrier") LAUNCH(dividedBarrierKernel, grid, from, to);
    if (mistake == "lone-shuffle") LAUNCH(loneShuffleKernel, grid, from, to);
    if (mistake == "behind-shared") LAUNCH(behindSharedKernel, grid, from, to);
    if (mistake == "unwritten") LAUNCH(unwrittenKernel, grid, from, to);
    if (mistake == "none-product") reverseByProduct<Product::right>(from, to);
    if (mistake == "none-written") reverseByProduct<Product::written>(from, to);
    if (mistake == "unpublished") reverseByProduct<Product::unpublished>(from, to);
    if (mistake == "unpublished-barrier") reverseByProduct<Product::unpublishedBarrier>(from, to);
    if (mistake == "no-copy-wait") reverseByProduct<Product::noCopyWait>(from, to);
    if (mistake == "no-product-wait") reverseByProduct<Product::noProductWait>(from, to);
    if (mistake == "early-copy") reverseByProduct<Product::earlyCopy>(from, to);
    if (mistake == "unswizzled") reverseByProduct<Product::unswizzled>(from, to);
    if (mistake == "no-fence") reverseByProduct<Product::noFence>(from, to);
    if (mistake == "half-group") reverseByProduct<Product::halfGroup>(from, to);
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
