// The depth of Winograd convolution with stride 2 along H and W: its taps are added slice by slice.
#pragma once

#include "conv3d_geometry.h"

namespace voxgrad::cpu {

// What steps along the depth read and produce, in one sample: an output slice of each phase a step. Source
// slices are transformed in blocks of some steps, where those that one tap reads are neighbours.
struct WinogradStridedDepth {
  int64_t sourceSlices, outputSlices;
  int64_t phases;  // of the output slices
  GatherAxis axis[2];
  int64_t sliceStep;      // source slices from a step to the next
  int64_t lowest, reach;  // a step i reads source slices i * sliceStep + lowest + [0, reach)

  WinogradStridedDepth(const Conv3dProblem& p, bool inputGradient)
      : sourceSlices(inputGradient ? p.Z : p.D),
        outputSlices(inputGradient ? p.D : p.Z),
        phases(inputGradient ? std::min(p.stride[0], p.D) : 1),
        sliceStep(inputGradient ? 1 : p.stride[0]),
        lowest(0),
        reach(0) {
    for (int64_t phase = 0; phase < phases; ++phase) {
      axis[phase] = inputGradient
                        ? gradientAxis(sourceSlices, p.R, outputSlices, p.stride[0], p.pad[0], 1, phase)
                        : forwardAxis(sourceSlices, p.R, outputSlices, p.stride[0], p.pad[0], 1);
      const GatherAxis& a = axis[phase];
      if (a.taps == 0) continue;
      const int64_t end = std::max(reach > 0 ? lowest + reach : a.offset(0), a.offset(a.taps - 1) + 1);
      lowest = reach > 0 ? std::min(lowest, a.offset(0)) : a.offset(0);
      reach = end - lowest;
    }
  }

  int64_t steps() const { return axis[0].count; }  // no phase has more
  int64_t span(int64_t steps) const { return reach > 0 ? (steps - 1) * sliceStep + reach : 0; }
  // The place of the i-th source slice of a block that has room for `steps`.
  int64_t slot(int64_t i, int64_t steps) const {
    return i % sliceStep * divideUp(span(steps), sliceStep) + i / sliceStep;
  }
};

}  // namespace voxgrad::cpu
