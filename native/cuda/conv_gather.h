// Convolution and its input gradient as one thing: every output voxel gathers source voxels through taps. On
// an input gradient with a stride, output voxels of one residue modulo the stride reach the same taps; each
// such class is a dense problem of its own with fewer taps, so that nothing is multiplied by inserted zeros.
#pragma once

#include "../core/conv_step.h"
#include "conv_norm.h"

namespace voxgrad::cuda {

// The output positions of one class along one axis, first + step * o for o below `count`, with the taps that
// reach them, tapFirst + tapStep * j for j below `taps`. Position o reads through tap j the source at
// sourceFirst + sourceStep * o + shift * j, zero where that is outside.
struct Lattice {
  int first, step, count;
  int tapFirst, tapStep, taps;
  int sourceFirst, sourceStep, shift;
};

struct GatherAxis {
  int output, source, taps, stride, pad, dilation;

  __host__ __device__ int classes(bool transposed) const {
    return !transposed ? 1 : stride < output ? stride : output;
  }

  __host__ __device__ Lattice lattice(bool transposed, int residue) const {
    if (!transposed) return {0, 1, output, 0, 1, taps, -pad, stride, dilation};
    // Position residue + stride * o meets source z by tap r where residue + pad - r * dilation + stride * o =
    // stride * z: that tap's distance must be a multiple of the stride.
    int tapFirst = 0;
    while (tapFirst < taps && tapFirst < stride && (residue + pad - tapFirst * dilation) % stride != 0)
      tapFirst++;
    int tapStep = 1;
    while (tapStep * dilation % stride != 0) tapStep++;
    const bool reached = tapFirst < taps && tapFirst < stride;
    return {residue,
            stride,
            (output - residue + stride - 1) / stride,
            tapFirst,
            tapStep,
            reached ? (taps - 1 - tapFirst) / tapStep + 1 : 0,
            (residue + pad - tapFirst * dilation) / stride,
            1,
            -(tapStep * dilation / stride)};
  }
};

struct Gather {
  bool transposed;
  int64_t batch;
  GatherAxis axis[3];
  int groups;
  // Channels of a group: `depth` of the source, which are summed over, and `columns` of the output.
  int depth, columns;

  __host__ __device__ int64_t taps() const { return int64_t{axis[0].taps} * axis[1].taps * axis[2].taps; }
  __host__ __device__ int64_t classes() const {
    return int64_t{axis[0].classes(transposed)} * axis[1].classes(transposed) * axis[2].classes(transposed);
  }
  __host__ __device__ int64_t outputVoxels() const {
    return batch * axis[0].output * axis[1].output * axis[2].output;
  }
  // Output voxels of the largest class.
  int64_t classRows() const {
    int64_t rows = batch;
    for (const GatherAxis& each : axis) rows *= each.lattice(transposed, 0).count;
    return rows;
  }
};

// A number by its digits, those behind the leading one below `radix`. The positions that a thread visits are
// equally spaced: added in this form, they cost no divisions.
struct Digits {
  int64_t lead;
  int digit[3];

  static __device__ __forceinline__ Digits of(int64_t number, const int (&radix)[3]) {
    Digits digits;
    for (int i = 2; i >= 0; i--) {
      digits.digit[i] = static_cast<int>(number % radix[i]);
      number /= radix[i];
    }
    digits.lead = number;
    return digits;
  }
  __device__ __forceinline__ void add(const Digits& other, const int (&radix)[3]) {
    int carry = 0;
    for (int i = 2; i >= 0; i--) {
      digit[i] += other.digit[i] + carry;
      carry = digit[i] >= radix[i];
      if (carry) digit[i] -= radix[i];
    }
    lead += other.lead + carry;
  }
};

inline Gather gatherOf(const Conv3dProblem& p, bool transposed) {
  const int64_t x[3] = {p.D, p.H, p.W}, y[3] = {p.Z, p.P, p.Q}, taps[3] = {p.R, p.S, p.T};
  Gather gather{transposed, p.N, {}, static_cast<int>(p.groups), 0, 0};
  for (int i = 0; i < 3; i++)
    gather.axis[i] = {static_cast<int>(transposed ? x[i] : y[i]),
                      static_cast<int>(transposed ? y[i] : x[i]),
                      static_cast<int>(taps[i]),
                      static_cast<int>(p.stride[i]),
                      static_cast<int>(p.pad[i]),
                      static_cast<int>(p.dilation[i])};
  gather.depth = static_cast<int>((transposed ? p.K : p.C) / p.groups);
  gather.columns = static_cast<int>((transposed ? p.C : p.K) / p.groups);
  return gather;
}

// Stores two neighbouring numbers, the first alone unless `both`, as bf16 where `narrow`.
template <Precision P>
__device__ __forceinline__ void storePair(void* output, bool narrow, int64_t at, bool both, float first,
                                          float second) {
  if (P == Precision::bf16 && narrow) {
    auto* to = static_cast<uint16_t*>(output) + at;
    const uint32_t pair = roundToBf16(first, second);
    if (both && reinterpret_cast<uintptr_t>(to) % sizeof pair == 0) {
      *reinterpret_cast<uint32_t*>(to) = pair;
    } else {
      to[0] = static_cast<uint16_t>(pair);
      if (both) to[1] = static_cast<uint16_t>(pair >> 16);
    }
    return;
  }
  auto* to = static_cast<float*>(output) + at;
  if (both && reinterpret_cast<uintptr_t>(to) % sizeof(float2) == 0) {
    *reinterpret_cast<float2*>(to) = {first, second};
  } else {
    to[0] = first;
    if (both) to[1] = second;
  }
}

// What a step asks of a convolution or input gradient besides its products.
struct Extras {
  bool bias = false;
  bool wide = false;        // floats are stored though operands are bf16
  bool normalizes = false;  // the source, as it is loaded
  bool sums = false;        // for the moments of the output
};

// A convolution or input gradient whose weights lie as the kernels read them: [groups, columns, taps, depth].
struct GatherCall {
  Gather gather;
  Precision precision;
  const void* source;  // of the elements of the precision, as the weights
  const void* weights;
  const float* bias;  // may be null
  void* output;
  bool narrow;  // whether that is bf16: with no other precision
  SourceNorm norm = {};
  // Where the moments of the output are wanted, [1, channels, 2], and the sums of which they are made; may be
  // null. See conv_sums.h.
  float* moments = nullptr;
  double* sums = nullptr;

  __host__ __device__ int64_t channels() const { return int64_t{gather.groups} * gather.columns; }

  // Stores two neighbouring columns of a voxel, or the one that is there, with the bias.
  template <Precision P>
  __device__ __forceinline__ void store(int group, int64_t voxel, int column, float first,
                                        float second) const {
    if (column >= gather.columns) return;
    const int64_t channel = int64_t{group} * gather.columns + column;
    const int64_t at = voxel * channels() + channel;
    const bool both = column + 1 < gather.columns;
    if (bias != nullptr) {
      first += bias[channel];
      if (both) second += bias[channel + 1];
    }
    storePair<P>(output, narrow, at, both, first, second);
  }

  // What that leaves of a number in memory; a column that is not there yields 0.
  template <Precision P>
  __device__ __forceinline__ float asStored(int group, int column, float value) const {
    if (column >= gather.columns) return 0;
    if (bias != nullptr) value += bias[int64_t{group} * gather.columns + column];
    return P == Precision::bf16 && narrow ? float{Bf16(value)} : value;
  }
};

// A weight gradient: x and dy of the elements of the precision.
struct GradientOperands {
  Conv3dProblem problem;
  Precision precision;
  const void *x, *dy;
  float* dw;
  void* workspace;
};

// What the kernels of a precision read.
template <Precision P>
using Element = std::conditional_t<P == Precision::bf16, Bf16, float>;

inline int chunkOfPrecision(Precision precision) {
  return precision == Precision::bf16 ? chunkOf<Bf16> : chunkOf<float>;
}

// What a variant of a kernel has for each precision.
template <class T>
struct ByPrecision {
  T of[precisions];
  const T& operator[](Precision precision) const { return of[static_cast<int>(precision)]; }
};
using Names = ByPrecision<const char*>;

// Whether 16 bytes at a time may be read from there.
inline bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace voxgrad::cuda
