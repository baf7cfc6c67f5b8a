// The passes of a convolution on the CPU as their users see them.
#pragma once

#include <cstddef>

#include "source_norm.h"

namespace voxgrad::cpu {

// A forward pass or an input gradient. Weights are packed for it once and serve until they change.
class Convolution {
 public:
  virtual ~Convolution() = default;

  // Whether `run` heeds the pitches of its problem, and whether it is to add.
  virtual bool places() const { return false; }

  // 0 where `run` reads the weights as they are.
  virtual size_t packedFloats() const = 0;
  virtual void pack(const float* w, float* packed) const = 0;

  // Bytes that `run` needs besides; may be 0.
  virtual size_t workspace() const = 0;
  // `bias` may be null.
  virtual void run(const float* source, const float* packed, const float* bias, float* output,
                   void* workspace) const = 0;
};

// The activation that a convolution reads: as it lies in memory or, with a norm, behind normalisation and
// ReLU, which are applied as it is loaded. The padding is zero either way.
struct ConvolutionSource {
  const float* data;
  const SourceNorm* norm;
};

// A forward pass or an input gradient that can normalise its source.
class NormalizingConvolution : public Convolution {
 public:
  // Whether that is faster than a pass of its own.
  virtual bool normalizes() const { return true; }
  void run(const float* source, const float* packed, const float* bias, float* output,
           void* workspace) const final {
    run(ConvolutionSource{source, nullptr}, packed, bias, output, workspace);
  }
  virtual void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                   void* workspace) const = 0;
};

// One that can also yield the mean and the biased variance of each channel of its output.
class SummingConvolution : public NormalizingConvolution {
 public:
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const final {
    run(source, packed, bias, output, workspace, nullptr);
  }
  // `moments`, [channels][2], may be null.
  virtual void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                   void* workspace, float* moments) const = 0;
};

// A weight gradient, however it is computed.
class ConvolutionWeightGradient {
 public:
  virtual ~ConvolutionWeightGradient() = default;

  // Whether `run` heeds the pitch of dy.
  virtual bool places() const { return false; }

  virtual size_t workspace() const = 0;
  // Overwrites dw.
  virtual void run(const float* x, const float* dy, float* dw, void* workspace) const = 0;
};

// One that can normalise x.
class NormalizingWeightGradient : public ConvolutionWeightGradient {
 public:
  void run(const float* x, const float* dy, float* dw, void* workspace) const final {
    run(ConvolutionSource{x, nullptr}, dy, dw, workspace);
  }
  virtual void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const = 0;
};

}  // namespace voxgrad::cpu
