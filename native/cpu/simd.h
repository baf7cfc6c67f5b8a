// One vector type, as wide as the instruction set this file is compiled for, over the vector extensions of
// GCC and Clang. Only for sources that are compiled once per instruction set: they define VOXGRAD_ISA_NAME,
// which names the namespace, and include no header with inline functions of external linkage, because the
// linker could keep the copy that uses instructions the machine lacks.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef VOXGRAD_ISA_NAME
#error "compile with -DVOXGRAD_ISA_NAME=avx512, avx2 or portable"
#endif

#define VOXGRAD_INLINE static inline __attribute__((always_inline))

// Lanes of two vectors: every other one of both in order, the same within 128 bits at a time, and both
// interleaved.
// clang-format off
#if defined(__AVX512F__)
#define VOXGRAD_LANES 16
#define VOXGRAD_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define VOXGRAD_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define VOXGRAD_EVEN_INSIDE 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define VOXGRAD_ODD_INSIDE 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#define VOXGRAD_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define VOXGRAD_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define VOXGRAD_LANES 8
#define VOXGRAD_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define VOXGRAD_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define VOXGRAD_EVEN_INSIDE 0, 2, 8, 10, 4, 6, 12, 14
#define VOXGRAD_ODD_INSIDE 1, 3, 9, 11, 5, 7, 13, 15
#define VOXGRAD_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define VOXGRAD_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define VOXGRAD_LANES 4
#define VOXGRAD_EVEN 0, 2, 4, 6
#define VOXGRAD_ODD 1, 3, 5, 7
#define VOXGRAD_EVEN_INSIDE VOXGRAD_EVEN
#define VOXGRAD_ODD_INSIDE VOXGRAD_ODD
#define VOXGRAD_LOW 0, 4, 1, 5
#define VOXGRAD_HIGH 2, 6, 3, 7
#endif
// clang-format on

#if defined(__clang__)
#define VOXGRAD_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VOXGRAD_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vint{__VA_ARGS__})
#endif

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

constexpr int kLanes = VOXGRAD_LANES;
typedef float vfloat __attribute__((vector_size(4 * kLanes)));
typedef int32_t vint __attribute__((vector_size(4 * kLanes)));
typedef int64_t vint64 __attribute__((vector_size(4 * kLanes)));
typedef float vfloatUnaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

VOXGRAD_INLINE vfloat load(const float* p) { return *reinterpret_cast<const vfloatUnaligned*>(p); }
VOXGRAD_INLINE void store(float* p, vfloat v) { *reinterpret_cast<vfloatUnaligned*>(p) = v; }

// Past the caches; see streams.h. p is aligned to a vector, and whole lines are stored one after another.
VOXGRAD_INLINE void stream(float* p, vfloat v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, v);
#else
  store(p, v);
#endif
}

// The first n lanes of v; all of them when n >= kLanes, none when n <= 0.
VOXGRAD_INLINE void storeFirst(float* p, vfloat v, int64_t n) {
  if (n >= kLanes) {
    store(p, v);
    return;
  }
#if defined(__AVX512F__)
  if (n > 0) _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
#elif defined(__AVX2__)
  // In pieces: a masked store takes long on some processors.
  if (n <= 0) return;
  __m128 part = _mm256_castps256_ps128(v);
  if (n & 4) {
    _mm_storeu_ps(p, part);
    part = _mm256_extractf128_ps(v, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), part);
    part = _mm_movehl_ps(part, part);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, part);
#else
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
#endif
}

// n values (n <= kLanes), zeros behind them.
VOXGRAD_INLINE vfloat loadFirst(const float* p, int64_t n) {
  if (n >= kLanes) return load(p);
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(n > 0 ? (1u << n) - 1 : 0), p);
#elif defined(__AVX2__)
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 0 ? static_cast<int>(n) : 0),
                                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
#else
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
#endif
}

// sum + v where the mask is set, else sum.
VOXGRAD_INLINE vfloat addWhere(vint mask, vfloat v, vfloat sum) {
#if defined(__AVX512F__)
  return mask ? sum + v : sum;
#else
  return sum + reinterpret_cast<vfloat>(mask & reinterpret_cast<vint>(v));
#endif
}

VOXGRAD_INLINE vfloat broadcast(const float* p) { return *p - vfloat{}; }

// sum += x * w. Left to themselves, compilers mix the three forms of the fused instruction and spend up to a
// third of the time on moving sums between registers.
VOXGRAD_INLINE void multiplyAdd(vfloat* sum, vfloat x, vfloat w) {
#if defined(__AVX512F__)
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(w));
#elif defined(__AVX2__)
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(x), "x"(w));
#else
  *sum += x * w;
#endif
}

// The same pointer, of which the compiler knows nothing: what is addressed from it is so in every round of a
// loop, instead of by a register each that is counted up.
VOXGRAD_INLINE const float* opaque(const float* p) {
  __asm__("" : "+r"(p));
  return p;
}

// p[0], p[1], p[0], p[1], ...
VOXGRAD_INLINE vfloat broadcastPair(const float* p) {
  int64_t bits;
  memcpy(&bits, p, sizeof bits);
  return reinterpret_cast<vfloat>(bits - vint64{});
}

// kLanes / 2 values from low, then kLanes / 2 from high.
VOXGRAD_INLINE vfloat loadHalves(const float* low, const float* high) {
#if defined(__AVX512DQ__)
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
#elif defined(__AVX2__)
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
#else
  return vfloat{low[0], low[1], high[0], high[1]};
#endif
}

// Lane pairs of a summed into the lower half, lane pairs of b into the upper half.
VOXGRAD_INLINE vfloat sumPairs(vfloat a, vfloat b) {
  return VOXGRAD_SHUFFLE(a, b, VOXGRAD_EVEN) + VOXGRAD_SHUFFLE(a, b, VOXGRAD_ODD);
}

// The upper half of v in both halves.
VOXGRAD_INLINE vfloat upperHalf(vfloat v) {
#if VOXGRAD_LANES == 16
  return VOXGRAD_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
#elif VOXGRAD_LANES == 8
  return VOXGRAD_SHUFFLE(v, v, 4, 5, 6, 7, 4, 5, 6, 7);
#else
  return VOXGRAD_SHUFFLE(v, v, 2, 3, 2, 3);
#endif
}

// Interleaves rows i and i + Rows / 2, which rotates the bits of every element's (row, lane) address by one
// place.
template <int Rows>
VOXGRAD_INLINE void interleave(vfloat (&rows)[Rows]) {
  vfloat mixed[Rows];
#pragma GCC unroll 8
  for (int i = 0; i < Rows / 2; ++i) {
    mixed[2 * i] = VOXGRAD_SHUFFLE(rows[i], rows[i + Rows / 2], VOXGRAD_LOW);
    mixed[2 * i + 1] = VOXGRAD_SHUFFLE(rows[i], rows[i + Rows / 2], VOXGRAD_HIGH);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) rows[i] = mixed[i];
}

// kLanes x kLanes transpose.
VOXGRAD_INLINE void transpose(vfloat (&rows)[kLanes]) {
#if VOXGRAD_LANES == 8
  // First within 128 bits, where shuffles are cheap, then across.
  vfloat pairs[8], fours[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = VOXGRAD_SHUFFLE(rows[i], rows[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pairs[i + 1] = VOXGRAD_SHUFFLE(rows[i], rows[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    const vfloat a = pairs[i / 4 * 4 + i % 4 / 2], b = pairs[i / 4 * 4 + i % 4 / 2 + 2];
    fours[i] = VOXGRAD_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    fours[i + 1] = VOXGRAD_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    rows[i] = VOXGRAD_SHUFFLE(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] = VOXGRAD_SHUFFLE(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  // log2(kLanes) rounds swap row and lane.
  for (int round = 1; round < kLanes; round *= 2) interleave(rows);
#endif
}

// The same of rows in memory.
VOXGRAD_INLINE void loadTransposed(const float* from, int64_t next, vfloat (&rows)[kLanes]) {
#if VOXGRAD_LANES == 8
  // Halves are put together as they are loaded, which spares a third of the shuffles.
  const float* const low = opaque(from);
  const float* const high = opaque(from + 4 * next);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    vfloat lines[4], pairs[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) lines[i] = loadHalves(low + i * next + 4 * half, high + i * next + 4 * half);
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
      pairs[i] = VOXGRAD_SHUFFLE(lines[i], lines[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      pairs[i + 1] = VOXGRAD_SHUFFLE(lines[i], lines[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      rows[4 * half + 2 * i] = VOXGRAD_SHUFFLE(pairs[i], pairs[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      rows[4 * half + 2 * i + 1] = VOXGRAD_SHUFFLE(pairs[i], pairs[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#else
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * next);
  transpose(rows);
#endif
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
