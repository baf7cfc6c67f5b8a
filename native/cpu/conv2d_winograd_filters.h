// Filters of Winograd convolution with 1x3x3 kernels, or with the slices of 3x3x3 kernels.
#pragma once

#include "conv3d_geometry.h"
#include "isa.h"

namespace voxgrad::cpu {

// Kernels RxSx3 with R 1 or 3 and S 3, flipped and transposed for the input gradient.
class Winograd2dTaps {
 public:
  static constexpr int64_t kSliceTaps = 9;

  Winograd2dTaps(const Conv3dProblem& problem, bool inputGradient);

  // Taps [count][9][lanes] of one slice of the kernels, one vector of produced channels and the reduced
  // channels from `first` on.
  void packTaps(const float* w, int64_t vector, int64_t first, int64_t count, int64_t depthTap,
                float* taps) const;

  // All of them, [vector][depth tap][reduced channel][9][lanes].
  size_t allTaps() const;
  void packAllTaps(const float* w, float* packed) const;

 protected:
  const Conv3dProblem problem_;
  const bool inputGradient_;
  const int64_t lanes_;
  const int64_t reduced_, produced_, vectors_;  // channels; vectors of the produced ones
};

class Winograd2dFilters : public Winograd2dTaps {
 public:
  // For tiles of so many frequencies.
  Winograd2dFilters(const Conv3dProblem& problem, bool inputGradient, const Winograd2dKernels& kernels,
                    int64_t frequencies);

  size_t packedFloats() const;

  // Filters as [panel of kWinogradVectors][frequency][depth tap][reduced channel][vector in panel][lane].
  void pack(const float* w, float* packed) const;

  // Filters [frequency][count][width] of what packTaps packs.
  void transform(const float* taps, int64_t count, int64_t width, int64_t frequencyStride,
                 float* filters) const;

  // One line apart from a power of two: the frequencies of a filter must not share a cache set.
  static int64_t frequencyFloats(int64_t count, int64_t width) { return count * width + 16; }

 private:
  const Winograd2dKernels& kernels_;
  const int64_t frequencies_;
};

}  // namespace voxgrad::cpu
