// Normalisation with ReLU of a vector. Like simd.h, for sources compiled once per instruction set.
#pragma once

#include "simd_math.h"
#include "source_norm.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

struct NormVectors {
  vfloat mean, scale, shift;
};

VOXGRAD_INLINE NormVectors loadNorm(const SourceNorm& norm, int64_t channel) {
  return {load(norm.mean + channel), load(norm.scale + channel), load(norm.shift + channel)};
}

// The arithmetic of normalizeRelu; NaN stays NaN.
VOXGRAD_INLINE vfloat normRelu(vfloat x, const NormVectors& norm) {
  return larger(vfloat{}, (x - norm.mean) * norm.scale + norm.shift);
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
