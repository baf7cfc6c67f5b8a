// Normalisation with ReLU, applied by a convolution to its source as it is loaded: relu((x - mean) * scale +
// shift). Plain data only: sources of every instruction set include this file.
#pragma once

namespace voxgrad {
namespace cpu {

// Coefficients by channel; behind the last one zeros, up to a whole line.
struct SourceNorm {
  const float *mean, *scale, *shift;
};

}  // namespace cpu
}  // namespace voxgrad
