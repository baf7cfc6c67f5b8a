// The drivers behind convolution with 1x3x3 kernels whose dilation leaves sub-maps of three voxels or fewer:
// the outer branches of atrous spatial pyramids, say. Most taps of such a map reach padding alone, and the
// rest are a Toeplitz matrix of two or three rows along each axis: 3 or 5 products where 4 or 7 taps reach
// something.
//
// Sub-maps of an axis have n voxels or n - 1. Those of each of the up to four combinations are the tiles of
// a convolution of its own, one after another.
#pragma once

#include <vector>

#include "conv2d_winograd.h"
#include "conv2d_winograd_weight_gradient.h"

namespace voxgrad::cpu {

// winograd2dFits, as many outputs as inputs, padding as large as the dilation, sub-maps of two or three
// voxels the most along both axes, and some of fewer than three.
bool winogradMapsFits(const Conv3dProblem& problem);

// The tiles of each combination, those with most taps first. winogradMapsFits(problem).
std::vector<Conv2dTiles> winogradMapTiles(const Conv3dProblem& problem, bool inputGradient);

class WinogradMaps final : public NormalizingConvolution {
 public:
  // winogradMapsFits(problem).
  WinogradMaps(const Conv3dProblem& problem, bool inputGradient);

  bool places() const override { return true; }
  size_t packedFloats() const override { return parts_.front().packedFloats(); }
  void pack(const float* w, float* packed) const override { parts_.front().pack(w, packed); }
  size_t workspace() const override;
  void run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
           void* workspace) const override;

 private:
  std::vector<Winograd2d> parts_;
};

class WinogradMapsWeightGradient final : public NormalizingWeightGradient {
 public:
  // winogradMapsFits(problem).
  explicit WinogradMapsWeightGradient(const Conv3dProblem& problem);

  bool places() const override { return true; }
  size_t workspace() const override;
  void run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const override;

 private:
  std::vector<Winograd2dWeightGradient> parts_;
};

}  // namespace voxgrad::cpu
