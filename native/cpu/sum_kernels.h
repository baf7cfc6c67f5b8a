// Sums over the rows of [rows, lanes]; see sum_kernels.cc. Plain declarations only: included by sources of
// every instruction set.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// One row of lanes each: the mean, and where a ReLU follows the normalisation, the factor and the addend that
// give its input; nullptr where none follows.
struct NormRows {
  const float* mean;
  const float* scale;
  const float* shift;
};

// Each adds the `count` elements of x, which are rows of `width` lanes, the last perhaps shorter, to rows of
// `width` sums in double precision.
struct SumKernels {
  // The values.
  void (*values)(const float* x, int64_t count, int64_t width, double* sums);
  // The values and their squares, which are exact in double: the variance loses at most
  // (mean / deviation)^2 * 1e-16.
  void (*squares)(const float* x, int64_t count, int64_t width, double* sums);
  // dy and dy (x - mean), dy counting as 0 where the ReLU is closed.
  void (*gradients)(const float* x, const float* dy, int64_t count, int64_t width, const NormRows& rows,
                    double* sums);
};

}  // namespace cpu
}  // namespace voxgrad
