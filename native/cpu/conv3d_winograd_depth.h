// The depth of Winograd convolution slice by slice with stride 1. As along H and W (conv2d_winograd_tiles.h),
// a dilated convolution is one undilated convolution for each of the interleaved maps whose slices lie
// `dilation` apart.
#pragma once

#include "conv3d_geometry.h"

namespace voxgrad::cpu {

// The `slices` of a map of outputs. Slice i reads by tap t the source at place i + t, which lies inside the
// source from place `firstInside` up to `endInside`.
struct WinogradDepthMap {
  int64_t slices, firstInside, endInside;
  int64_t source, output;  // the slices, of all samples, at place 0

  // The taps [begin, end) of three that read inside the source for a slice; none where end <= begin.
  int64_t beginTap(int64_t slice) const { return std::max<int64_t>(0, firstInside - slice); }
  int64_t endTap(int64_t slice) const { return std::min<int64_t>(3, endInside - slice); }
};

struct WinogradDepth {
  int64_t sourceSlices, outputSlices, pad, step;

  WinogradDepth(const Conv3dProblem& p, bool inputGradient)
      : sourceSlices(inputGradient ? p.Z : p.D),
        outputSlices(inputGradient ? p.D : p.Z),
        pad(inputGradient ? 2 * p.dilation[0] - p.pad[0] : p.pad[0]),
        step(p.dilation[0]) {}

  // Maps of a sample, and the slices of the longest.
  int64_t maps() const { return std::min(step, outputSlices); }
  int64_t slices() const { return divideUp(outputSlices, step); }

  // The index-th map of all samples.
  WinogradDepthMap map(int64_t index) const {
    const int64_t sample = index / maps(), first = index % maps(), before = pad - first;
    WinogradDepthMap map;
    map.slices = divideUp(outputSlices - first, step);
    map.firstInside = std::max<int64_t>(0, divideUp(before, step));
    map.endInside = std::max<int64_t>(0, divideUp(sourceSlices + before, step));
    map.source = sample * sourceSlices - before;
    map.output = sample * outputSlices + first;
    return map;
  }
};

}  // namespace voxgrad::cpu
