// The PTX instructions that kernels use, but for those of compute capability 9 (hopper.h). Each has a second
// body, for the emulation, that does what the PTX manual says about it; nothing else in this folder contains
// PTX.
#pragma once

#include "../core/bf16.h"
#include "cuda.h"

namespace voxgrad::cuda {

// Copies BYTES (4, 8 or 16) from global to shared memory, both aligned to as much, or zeroes where not
// `valid`; `from` must be an address in any case. The copy is done when the thread has waited for its group,
// and is seen by the others of the block after a barrier behind that.
template <int BYTES>
__device__ __forceinline__ void copyAsync(void* to, const void* from, bool valid) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what cp.async copies");
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = valid ? BYTES : 0;
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(address), "l"(from), "n"(BYTES),
                 "r"(bytes)
                 : "memory");
#else
  if (reinterpret_cast<uintptr_t>(to) % BYTES != 0 || reinterpret_cast<uintptr_t>(from) % BYTES != 0)
    emulation::block->fail("an asynchronous copy that is not aligned");
  emulation::block->beginCopy({to, valid ? from : nullptr, BYTES});
#endif
}

// Ends a group of copies, which may be empty.
__device__ __forceinline__ void commitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#else
  emulation::Fiber& self = *emulation::fiber;
  size_t grouped = 0;
  for (const size_t count : self.groups) grouped += count;
  self.groups.push_back(self.copies.size() - grouped);
#endif
}

// Waits for all groups of the thread but the newest KEEP.
template <int KEEP>
__device__ __forceinline__ void waitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;\n" ::"n"(KEEP) : "memory");
#else
  emulation::block->completeCopies(KEEP);
#endif
}

// Four matrices of 8 rows of 16 bytes: lane i names row i % 8 of matrix i / 8, and word[m] is word i % 4 of
// row i / 4 of matrix m. TRANSPOSED, of 16-bit elements only, deals out columns instead.
template <bool TRANSPOSED = false>
__device__ __forceinline__ void loadMatrices(uint32_t (&word)[4], const void* row) {
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
#else
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulation::block->fail("a matrix row that is not aligned");
  const uint32_t* out = emulation::block->collective(
      emulation::matrixLoad, fullWarp, &row, sizeof row, [](emulation::Warp& warp, uint32_t present) {
        if (present != fullWarp) emulation::block->fail("a matrix load by a part of a warp");
        const auto rowOf = [&warp](int matrix, int row) {
          const char* address;
          std::memcpy(&address, warp.in[matrix * 8 + row], sizeof address);
          return address;
        };
        for (int lane = 0; lane < warpSize; lane++)
          for (int m = 0; m < 4; m++)
            if (TRANSPOSED)
              for (int half = 0; half < 2; half++)
                std::memcpy(reinterpret_cast<char*>(&warp.out[lane][m]) + 2 * half,
                            rowOf(m, lane % 4 * 2 + half) + lane / 4 * 2, 2);
            else
              std::memcpy(&warp.out[lane][m], rowOf(m, lane / 4) + lane % 4 * 4, 4);
      });
  std::memcpy(word, out, sizeof word);
#endif
}

// Where a float has what a TF32 number is made of.
constexpr uint32_t tf32Bits = 0xffffe000u;

// The nearest number of 10 bits of mantissa, ties away from zero; the bits below may be anything.
__device__ __forceinline__ uint32_t roundToTf32(float value) {
#ifdef __CUDACC__
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(rounded) : "f"(value));
  return rounded;
#else
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) | ~tf32Bits;
#endif
}

// The nearest bfloat16 numbers, ties to even, `first` in the lower half; NaN becomes the NaN 0x7fff.
__device__ __forceinline__ uint32_t roundToBf16(float first, float second) {
#ifdef __CUDACC__
  uint32_t rounded;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(rounded) : "f"(second), "f"(first));
  return rounded;
#else
  return bf16Of(first) | uint32_t{bf16Of(second)} << 16;
#endif
}

#ifndef __CUDACC__
// d += a b of one warp: `load` puts what a lane brought, 4 words of d last, into the matrices.
template <int DEPTH, int WORDS, class Load>
void emulatedProduct(float (&d)[4], const uint32_t (&in)[WORDS], Load load) {
  const uint32_t* out = emulation::block->collective(
      emulation::matrixProduct, fullWarp, in, sizeof in, [load](emulation::Warp& warp, uint32_t present) {
        if (present != fullWarp) emulation::block->fail("a matrix product by a part of a warp");
        float a[16][DEPTH], b[8][DEPTH], c[16][8];
        for (int lane = 0; lane < warpSize; lane++) {
          load(warp.in[lane], lane / 4, lane % 4, a, b);
          for (int i = 0; i < 4; i++)
            c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = __uint_as_float(warp.in[lane][WORDS - 4 + i]);
        }
        for (int row = 0; row < 16; row++)
          for (int column = 0; column < 8; column++)
            c[row][column] = emulation::addProducts<DEPTH>(c[row][column], a[row], b[column]);
        for (int lane = 0; lane < warpSize; lane++)
          for (int i = 0; i < 4; i++)
            warp.out[lane][i] = __float_as_uint(c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
      });
  std::memcpy(d, out, sizeof d);
}
#endif

// d [16, 8] += a [16, 8] b [8, 8] of TF32 numbers. With group = lane / 4 and t = lane % 4, a lane holds
// a = {[group, t], [group + 8, t], [group, t + 4], [group + 8, t + 4]}, b = {[t, group], [t + 4, group]} and
// d = {[group, 2 t], [group, 2 t + 1], [group + 8, 2 t], [group + 8, 2 t + 1]}.
__device__ __forceinline__ void multiplyTf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  uint32_t in[10];
  std::memcpy(in, a, sizeof a);
  std::memcpy(in + 4, b, sizeof b);
  std::memcpy(in + 6, d, sizeof d);
  emulatedProduct<8>(d, in, [](const uint32_t* word, int group, int t, float(&a)[16][8], float(&b)[8][8]) {
    const auto number = [](uint32_t bits) { return __uint_as_float(bits & tf32Bits); };
    for (int i = 0; i < 4; i++) a[group + i % 2 * 8][t + i / 2 * 4] = number(word[i]);
    for (int i = 0; i < 2; i++) b[group][t + i * 4] = number(word[4 + i]);
  });
#endif
}

// d [16, 8] += a [16, 16] b [16, 8] of bfloat16 numbers, two to a word, the first in the lower half:
// a = {[group, 2 t], [group + 8, 2 t], [group, 2 t + 8], [group + 8, 2 t + 8]}, b = {[2 t, group],
// [2 t + 8, group]}, each with its neighbour in k; d as above.
__device__ __forceinline__ void multiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  uint32_t in[10];
  std::memcpy(in, a, sizeof a);
  std::memcpy(in + 4, b, sizeof b);
  std::memcpy(in + 6, d, sizeof d);
  emulatedProduct<16>(d, in, [](const uint32_t* word, int group, int t, float(&a)[16][16], float(&b)[8][16]) {
    const auto half = [](uint32_t pair, int i) {
      return __uint_as_float(i == 0 ? pair << 16 : pair & 0xffff0000u);
    };
    for (int k = 0; k < 2; k++) {
      for (int i = 0; i < 4; i++) a[group + i % 2 * 8][2 * t + i / 2 * 8 + k] = half(word[i], k);
      for (int i = 0; i < 2; i++) b[group][2 * t + i * 8 + k] = half(word[4 + i], k);
    }
  });
#endif
}

}  // namespace voxgrad::cuda
