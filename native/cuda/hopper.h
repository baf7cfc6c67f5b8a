// PTX of compute capability 9.0a: barriers in shared memory that count bytes, copies of boxes of a tensor,
// and products of a warpgroup. As in ptx.h, each has a second body for the emulation.
//
// Kernels that use them are for devices where hasWarpgroups() of tensor_map.h; compiled for others, they
// trap.
#pragma once

#ifdef __CUDACC__
#include <cuda.h>
#endif

#include "ptx.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER_PTX(...) asm volatile(__VA_ARGS__)
#else
#define HOPPER_PTX(...) asm volatile("trap;\n")
#endif

namespace voxgrad::cuda {

using TensorMap = CUtensorMap;

constexpr int warpgroupThreads = 128;
// A tile of an operand has rows of that many bytes, and lies at multiples of eight of them.
constexpr int swizzleBytes = 128, swizzleAlignment = 8 * swizzleBytes;

__device__ __forceinline__ uint32_t sharedAddress(const void* data) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__cvta_generic_to_shared(data));
#else
  return emulation::sharedAddress(data);
#endif
}

// The dynamic shared memory of the block from where tiles may begin; it takes swizzleAlignment bytes besides.
__device__ __forceinline__ unsigned char* swizzledMemory() {
  auto* const memory = sharedMemory<unsigned char>();
  return memory + (0u - sharedAddress(memory)) % swizzleAlignment;
}

// A barrier whose phases end when `arrivals` threads have arrived and the bytes that they announced have
// come. One thread makes it, and all of the block meet behind publish().
__device__ __forceinline__ void makeBarrier(uint64_t* barrier, int arrivals) {
#ifdef __CUDACC__
  HOPPER_PTX("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(sharedAddress(barrier)), "r"(arrivals)
             : "memory");
#else
  emulation::initBarrier(barrier, arrivals);
#endif
}

// Shows the copy engine, and products, what the thread has written to shared memory.
__device__ __forceinline__ void publish() {
#ifdef __CUDACC__
  HOPPER_PTX("fence.proxy.async.shared::cta;\n" ::: "memory");
#else
  emulation::publish();
#endif
}

__device__ __forceinline__ void arrive(uint64_t* barrier) {
#ifdef __CUDACC__
  HOPPER_PTX("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(sharedAddress(barrier)) : "memory");
#else
  emulation::arriveAtBarrier(barrier, 0);
#endif
}

__device__ __forceinline__ void arriveExpecting(uint64_t* barrier, int bytes) {
#ifdef __CUDACC__
  HOPPER_PTX("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(sharedAddress(barrier)),
             "r"(bytes)
             : "memory");
#else
  emulation::arriveAtBarrier(barrier, bytes);
#endif
}

// Waits for the end of the phase of that parity: of the first, third, ... one it is 0. A barrier that has
// ended none counts as if one of parity 1 were over.
__device__ __forceinline__ void waitForPhase(uint64_t* barrier, uint32_t parity) {
#ifdef __CUDACC__
  uint32_t over = 0;
  while (over == 0)
    HOPPER_PTX(
        "{\n.reg .pred over;\nmbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n}\n"
        : "=r"(over)
        : "r"(sharedAddress(barrier)), "r"(parity)
        : "memory");
#else
  emulation::waitAtBarrier(barrier, parity);
#endif
}

// Copies the box of the tensor whose first element is `at`, innermost axis first, to shared memory, aligned
// to swizzleAlignment; zeroes stand for what is outside of the tensor. `barrier` counts its bytes, those too.
// One thread does it, and `map` is a parameter of the kernel.
__device__ __forceinline__ void copyBox(void* to, const TensorMap& map, const int (&at)[5],
                                        uint64_t* barrier) {
#ifdef __CUDACC__
  HOPPER_PTX(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5, %6}], [%7];\n" ::"r"(sharedAddress(to)),
      "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(sharedAddress(barrier))
      : "memory");
#else
  if (map.rank != 5) emulation::block->fail("a box with more axes than its tensor");
  emulation::copyBox({map, static_cast<unsigned char*>(to), {at[0], at[1], at[2], at[3], at[4]}}, barrier);
#endif
}

__device__ __forceinline__ void copyBox(void* to, const TensorMap& map, const int (&at)[3],
                                        uint64_t* barrier) {
#ifdef __CUDACC__
  HOPPER_PTX(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4}], [%5];\n" ::"r"(sharedAddress(to)),
      "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(sharedAddress(barrier))
      : "memory");
#else
  if (map.rank != 3) emulation::block->fail("a box with more axes than its tensor");
  emulation::copyBox({map, static_cast<unsigned char*>(to), {at[0], at[1], at[2]}}, barrier);
#endif
}

// A place in a swizzled tile as a descriptor of the PTX manual: address and distances in units of 16 bytes.
__device__ __forceinline__ uint64_t swizzledPlace(const void* tile, int bytes, uint64_t leading) {
  constexpr uint64_t stride = swizzleAlignment >> 4, swizzle = 1;
  const uint32_t address = sharedAddress(tile) + bytes;
  return (address & 0x3ffff) >> 4 | leading >> 4 << 16 | stride << 32 | swizzle << 62;
}

// An operand of a product in a tile that holds 128 bytes of the depth of each row of a, or column of b: it
// begins `bytes` behind the start of the rows.
__device__ __forceinline__ uint64_t operandAt(const void* tile, int bytes) {
  return swizzledPlace(tile, bytes, 16);  // a leading distance that is not used
}

// An operand in tiles that each hold 64 rows of a, or columns of b, of one depth after the other: it begins
// at a multiple of eight depths. The next 64 lie `distance` bytes further.
__device__ __forceinline__ uint64_t operandByDepth(const void* tile, int depth, int distance) {
  return swizzledPlace(tile, depth * swizzleBytes, static_cast<uint64_t>(distance));
}

// Keeps the compiler from moving what it does with these registers across.
template <int N>
__device__ __forceinline__ void pin(float (&sums)[N]) {
#ifdef __CUDACC__
  UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(sums[i])::"memory");
#endif
}

// Stands in front of products whose sums something else has written.
__device__ __forceinline__ void fenceProducts() {
#ifdef __CUDACC__
  HOPPER_PTX("wgmma.fence.sync.aligned;\n" ::: "memory");
#else
  emulation::fiber->products.fence();
#endif
}

// Ends a group of products.
__device__ __forceinline__ void commitProducts() {
#ifdef __CUDACC__
  HOPPER_PTX("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#else
  emulation::fiber->products.commit();
#endif
}

// Waits for all groups of the warpgroup but the newest KEEP; until then sums are nobody's, and operands must
// stay.
template <int KEEP>
__device__ __forceinline__ void waitForProducts() {
#ifdef __CUDACC__
  HOPPER_PTX("wgmma.wait_group.sync.aligned %0;\n" ::"n"(KEEP) : "memory");
#else
  emulation::fiber->products.wait(KEEP);
  __syncwarp();
#endif
}

#ifdef __CUDACC__
// Operands of an instruction by the dozen: registers from `i` on, and how its text calls the first 128.
#define SUMS_8(i)                                                                             \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(i) SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24)
#define NAMES_32                                                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                           \
  NAMES_32                                                                                                 \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_128                                                                                            \
  NAMES_64                                                                                                   \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, "   \
  "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, " \
  "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, "   \
  "%121, %122, %123, %124, %125, %126, %127"
// The operands behind the sums: add to them, neither operand negated, and what there is else.
#define MULTIPLY(columns, kind, names, a, b, more)                                                        \
  "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" columns kind " {" names \
  "}, " a ", " b ", add, 1, 1" more ";\n}\n"
#define TF32 "k8.f32.tf32.tf32"
#define BF16 "k16.f32.bf16.bf16"
#endif

// d [64, COLUMNS] += a [64, 16] b [16, COLUMNS] of bfloat16 numbers by a warpgroup, operands by operandAt()
// or, BY_DEPTH, operandByDepth(). With group = lane / 4, t = lane % 4 and first = warp % 4 * 16, a thread
// holds d[4 j] = {[first + group, 8 j + 2 t], [first + group, 8 j + 2 t + 1], [first + group + 8, 8 j + 2 t],
// [first + group + 8, 8 j + 2 t + 1]}.
template <int COLUMNS, bool BY_DEPTH = false>
__device__ __forceinline__ void multiplyBf16(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b) {
  static_assert(COLUMNS == 64 || COLUMNS == 128 || COLUMNS == 256, "what has a body here");
#ifdef __CUDACC__
  if constexpr (COLUMNS == 64)
    HOPPER_PTX(MULTIPLY("64", BF16, NAMES_32, "%32", "%33", ", %34, %34")
               : SUMS_32(0)
               : "l"(a), "l"(b), "n"(BY_DEPTH));
  else if constexpr (COLUMNS == 128)
    HOPPER_PTX(MULTIPLY("128", BF16, NAMES_64, "%64", "%65", ", %66, %66")
               : SUMS_32(0), SUMS_32(32)
               : "l"(a), "l"(b), "n"(BY_DEPTH));
  else
    HOPPER_PTX(MULTIPLY("256", BF16, NAMES_128, "%128", "%129", ", %130, %130")
               : SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_32(96)
               : "l"(a), "l"(b), "n"(BY_DEPTH));
#else
  const auto lie = BY_DEPTH ? emulation::Product::bf16ByDepth : emulation::Product::bf16;
  emulation::fiber->products.issue({a, b, lie, COLUMNS, d});
#endif
}

// The same of a [64, 8] and b [8, COLUMNS] of TF32 numbers, operands by operandAt().
template <int COLUMNS>
__device__ __forceinline__ void multiplyTf32(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b) {
  static_assert(COLUMNS == 64 || COLUMNS == 128 || COLUMNS == 256, "what has a body here");
#ifdef __CUDACC__
  if constexpr (COLUMNS == 64)
    HOPPER_PTX(MULTIPLY("64", TF32, NAMES_32, "%32", "%33", "") : SUMS_32(0) : "l"(a), "l"(b));
  else if constexpr (COLUMNS == 128)
    HOPPER_PTX(MULTIPLY("128", TF32, NAMES_64, "%64", "%65", "") : SUMS_32(0), SUMS_32(32) : "l"(a), "l"(b));
  else
    HOPPER_PTX(MULTIPLY("256", TF32, NAMES_128, "%128", "%129", "")
               : SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_32(96)
               : "l"(a), "l"(b));
#else
  emulation::fiber->products.issue({a, b, emulation::Product::tf32, COLUMNS, d});
#endif
}

#ifdef __CUDACC__
#undef SUMS_8
#undef SUMS_32
#undef NAMES_32
#undef NAMES_64
#undef NAMES_128
#undef MULTIPLY
#undef TF32
#undef BF16
#undef HOPPER_PTX
#endif

}  // namespace voxgrad::cuda
