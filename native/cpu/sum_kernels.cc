// Sums over the rows of [rows, lanes], in registers. Values and squares are added in double precision from
// the first addition on, gradients in float over kFloatRows rows and in double from there. Compiled once per
// instruction set; see simd.h.
#include "sum_kernels.h"

#include "simd_sums.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Half as many lanes as vfloat, which is as many as a register holds in double precision.
constexpr int kHalf = kLanes / 2;
typedef float vhalf __attribute__((vector_size(4 * kHalf)));
typedef float vhalfUnaligned __attribute__((vector_size(4 * kHalf), aligned(4), may_alias));
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

VOXGRAD_INLINE void prefetch(const float* p) {
  constexpr int64_t kAhead = 4096;  // bytes
  __builtin_prefetch(reinterpret_cast<const char*>(p) + kAhead);
}

// What is added up, for one element or a vector of them: `at` counts from the first.
struct ValueTerms {
  const float* x;

  template <class T, class Wide>
  __attribute__((always_inline)) void get(int64_t at, Wide (&terms)[1]) const {
    T value;
    read(x + at, value);
    terms[0] = widen(value);
  }
};

struct SquareTerms {
  const float* x;

  template <class T, class Wide>
  __attribute__((always_inline)) void get(int64_t at, Wide (&terms)[2]) const {
    T value;
    read(x + at, value);
    terms[0] = widen(value);
    terms[1] = terms[0] * terms[0];
  }
};

// V vectors from `lane` on, of all whole rows.
template <int K, int V, class Terms>
VOXGRAD_INLINE void addBlock(const Terms& terms, int64_t rows, int64_t width, int64_t lane, double* sums) {
  vdouble block[V][K] = {};
  for (int64_t row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (v % 2 == 0) prefetch(terms.x + row * width + lane + v * kHalf);
      vdouble values[K];
      terms.template get<vhalf>(row * width + lane + v * kHalf, values);
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
  terms.template get<float>(at, values);
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

// Rows whose gradients are added in float: the error of such a sum is below 2e-6 of the sum of magnitudes.
constexpr int64_t kFloatRows = 32;
// Vectors of a row that are added side by side, with their means, factors and addends in registers.
constexpr int kGradientBlock = kLanes == 16 ? 4 : 2;

VOXGRAD_INLINE vfloat whereOpen(vfloat x, vfloat value) {
  return reinterpret_cast<vfloat>(reinterpret_cast<vint>(x > vfloat{}) & reinterpret_cast<vint>(value));
}

// V vectors from `lane` on, of all whole rows.
template <int V, bool kRelu>
VOXGRAD_INLINE void addGradients(const float* x, const float* dy, int64_t rows, int64_t width, int64_t lane,
                                 const NormRows& norm, double* sums) {
  vfloat mean[V], scale[V], shift[V];
  for (int v = 0; v < V; ++v) {
    mean[v] = load(norm.mean + lane + v * kLanes);
    scale[v] = kRelu ? load(norm.scale + lane + v * kLanes) : vfloat{};
    shift[v] = kRelu ? load(norm.shift + lane + v * kLanes) : vfloat{};
  }
  for (int64_t row = 0; row < rows;) {
    vfloat gradients[V] = {}, products[V] = {};
    for (const int64_t end = rows - row < kFloatRows ? rows : row + kFloatRows; row < end; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t at = row * width + lane + v * kLanes;
        prefetch(x + at);
        prefetch(dy + at);
        const vfloat value = load(x + at) - mean[v];
        vfloat gradient = load(dy + at);
        if (kRelu) gradient = whereOpen(value * scale[v] + shift[v], gradient);
        gradients[v] += gradient;
        products[v] += gradient * value;
      }
    }
    for (int v = 0; v < V; ++v) {
      addLanes(sums + lane + v * kLanes, gradients[v]);
      addLanes(sums + width + lane + v * kLanes, products[v]);
    }
  }
}

template <bool kRelu>
VOXGRAD_INLINE void gradientsOf(const float* x, const float* dy, int64_t count, int64_t width,
                                const NormRows& norm, double* sums) {
  const auto addOne = [&](int64_t at, int64_t lane) {
    const float value = x[at] - norm.mean[lane];
    const bool open = !kRelu || value * norm.scale[lane] + norm.shift[lane] > 0;
    const float gradient = open ? dy[at] : 0.0f;
    sums[lane] += gradient;
    sums[width + lane] += gradient * value;
  };
  constexpr int64_t kWidth = kGradientBlock * kLanes;
  const int64_t rows = count / width;
  int64_t lane = 0;
  for (; lane + kWidth <= width; lane += kWidth)
    addGradients<kGradientBlock, kRelu>(x, dy, rows, width, lane, norm, sums);
  for (; lane + kLanes <= width; lane += kLanes) addGradients<1, kRelu>(x, dy, rows, width, lane, norm, sums);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t j = lane; j < width; ++j) addOne(row * width + j, j);
  for (int64_t at = rows * width; at < count; ++at) addOne(at, at - rows * width);
}

void gradients(const float* x, const float* dy, int64_t count, int64_t width, const NormRows& rows,
               double* sums) {
  rows.scale != nullptr ? gradientsOf<true>(x, dy, count, width, rows, sums)
                        : gradientsOf<false>(x, dy, count, width, rows, sums);
}

}  // namespace

const SumKernels& sumKernels() {
  static constexpr SumKernels kernels = {values, squares, gradients};
  return kernels;
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
