// Sums over the rows of [rows, lanes], in registers and in double precision from the first addition on.
// Compiled once per instruction set; see simd.h.
#include "sum_kernels.h"

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Half as many lanes as vfloat, which is as many as a register holds in double precision.
constexpr int kHalf = kLanes / 2;
typedef float vhalf __attribute__((vector_size(4 * kHalf)));
typedef float vhalfUnaligned __attribute__((vector_size(4 * kHalf), aligned(4), may_alias));
typedef int32_t vhalfInt __attribute__((vector_size(4 * kHalf)));
typedef double vdouble __attribute__((vector_size(8 * kHalf)));

// Vectors of a row that are added side by side: as many as there are registers for twice their sums. Enough
// chains to hide the latency of an addition, and whole rows, which the memory is read in order for.
constexpr int kBlock = kLanes == 16 ? 8 : 4;

VOXGRAD_INLINE void read(const float* p, float& value) { value = *p; }
VOXGRAD_INLINE void read(const float* p, vhalf& value) {
  value = *reinterpret_cast<const vhalfUnaligned*>(p);
}
VOXGRAD_INLINE double widen(float value) { return value; }
VOXGRAD_INLINE vdouble widen(vhalf value) { return __builtin_convertvector(value, vdouble); }
VOXGRAD_INLINE float whereOpen(float x, float value) { return x > 0 ? value : 0.0f; }
VOXGRAD_INLINE vhalf whereOpen(vhalf x, vhalf value) {
  return reinterpret_cast<vhalf>(reinterpret_cast<vhalfInt>(x > vhalf{}) & reinterpret_cast<vhalfInt>(value));
}

// What is added up, for one element or a vector of them: `at` counts from the first, `lane` within a row.
struct ValueTerms {
  const float* x;

  template <class T, class Wide>
  __attribute__((always_inline)) void get(int64_t at, int64_t, Wide (&terms)[1]) const {
    T value;
    read(x + at, value);
    terms[0] = widen(value);
  }
};

struct SquareTerms {
  const float* x;

  template <class T, class Wide>
  __attribute__((always_inline)) void get(int64_t at, int64_t, Wide (&terms)[2]) const {
    T value;
    read(x + at, value);
    terms[0] = widen(value);
    terms[1] = terms[0] * terms[0];
  }
};

template <bool kRelu>
struct GradientTerms {
  const float *x, *dy;
  NormRows rows;

  template <class T, class Wide>
  __attribute__((always_inline)) void get(int64_t at, int64_t lane, Wide (&terms)[2]) const {
    T value, gradient, mean;
    read(x + at, value);
    read(dy + at, gradient);
    read(rows.mean + lane, mean);
    value -= mean;
    if (kRelu) {
      T scale, shift;
      read(rows.scale + lane, scale);
      read(rows.shift + lane, shift);
      gradient = whereOpen(value * scale + shift, gradient);
    }
    terms[0] = widen(gradient);
    terms[1] = widen(gradient * value);
  }
};

// V vectors from `lane` on, of all whole rows.
template <int K, int V, class Terms>
VOXGRAD_INLINE void addBlock(const Terms& terms, int64_t rows, int64_t width, int64_t lane, double* sums) {
  vdouble block[V][K] = {};
  for (int64_t row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      vdouble values[K];
      terms.template get<vhalf>(row * width + lane + v * kHalf, lane + v * kHalf, values);
#pragma GCC unroll 2
      for (int k = 0; k < K; ++k) block[v][k] += values[k];
    }
  }
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v)
      for (int i = 0; i < kHalf; ++i) sums[k * width + lane + v * kHalf + i] += block[v][k][i];
}

template <int K, class Terms>
VOXGRAD_INLINE void addOne(const Terms& terms, int64_t at, int64_t width, int64_t lane, double* sums) {
  double values[K];
  terms.template get<float>(at, lane, values);
  for (int k = 0; k < K; ++k) sums[k * width + lane] += values[k];
}

template <int K, class Terms>
VOXGRAD_INLINE void addRows(const Terms& terms, int64_t count, int64_t width, double* sums) {
  const int64_t rows = count / width;
  int64_t lane = 0;
  for (; lane + kBlock * kHalf <= width; lane += kBlock * kHalf)
    addBlock<K, kBlock>(terms, rows, width, lane, sums);
  for (; lane + kHalf <= width; lane += kHalf) addBlock<K, 1>(terms, rows, width, lane, sums);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t j = lane; j < width; ++j) addOne<K>(terms, row * width + j, width, j, sums);
  for (int64_t at = rows * width; at < count; ++at) addOne<K>(terms, at, width, at - rows * width, sums);
}

void values(const float* x, int64_t count, int64_t width, double* sums) {
  addRows<1>(ValueTerms{x}, count, width, sums);
}

void squares(const float* x, int64_t count, int64_t width, double* sums) {
  addRows<2>(SquareTerms{x}, count, width, sums);
}

void gradients(const float* x, const float* dy, int64_t count, int64_t width, const NormRows& rows,
               double* sums) {
  if (rows.scale != nullptr)
    addRows<2>(GradientTerms<true>{x, dy, rows}, count, width, sums);
  else
    addRows<2>(GradientTerms<false>{x, dy, rows}, count, width, sums);
}

}  // namespace

const SumKernels& sumKernels() {
  static constexpr SumKernels kernels = {values, squares, gradients};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
