// The passes of a convolution on the CPU as their users see them.
#pragma once

#include <cstddef>

namespace voxgrad::cpu {

// A forward pass or an input gradient. Weights are packed for it once and serve until they change.
class Convolution {
 public:
  virtual ~Convolution() = default;

  virtual size_t packedFloats() const = 0;
  virtual void pack(const float* w, float* packed) const = 0;

  // Bytes that `run` needs besides; may be 0.
  virtual size_t workspace() const = 0;
  // `bias` may be null.
  virtual void run(const float* source, const float* packed, const float* bias, float* output,
                   void* workspace) const = 0;
};

// A weight gradient, however it is computed.
class ConvolutionWeightGradient {
 public:
  virtual ~ConvolutionWeightGradient() = default;

  virtual size_t workspace() const = 0;
  // Overwrites dw.
  virtual void run(const float* x, const float* dy, float* dw, void* workspace) const = 0;
};

}  // namespace voxgrad::cpu
