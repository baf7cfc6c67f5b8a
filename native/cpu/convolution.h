// A forward pass or an input gradient on the CPU, however it is computed. Weights are packed for it once and
// serve until they change.
#pragma once

#include <cstddef>

namespace voxgrad::cpu {

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

}  // namespace voxgrad::cpu
