// Rows of outputs of a convolution, or of its input gradient, with the rows of the source that they read, for
// kernels that compute such a row at once.
#pragma once

#include "../core/thread_pool.h"
#include "conv3d_geometry.h"

namespace voxgrad::cpu {

// Voxels axis.first + i*axis.outputStep of one row of outputs.
struct OutputRow {
  int64_t line;  // rows before this one
  GatherAxis axis;
  const float* const* sources;  // [rowTaps]: rows of the source
  const float* const* weights;  // [rowTaps]: those of the row's taps, [T][tapFloats]
  int64_t rowTaps;
};

// The axis `a` (0 to 2: d, h, w) of a pass; `phase` counts only for input gradients.
inline GatherAxis outputAxis(const Conv3dProblem& p, bool inputGradient, int a, int64_t phase) {
  const int64_t x[3] = {p.D, p.H, p.W}, kernel[3] = {p.R, p.S, p.T}, y[3] = {p.Z, p.P, p.Q};
  return inputGradient ? gradientAxis(y[a], kernel[a], x[a], p.stride[a], p.pad[a], p.dilation[a], phase)
                       : forwardAxis(x[a], kernel[a], y[a], p.stride[a], p.pad[a], p.dilation[a]);
}

// Calls body(row) for every row, or, of an input gradient with a stride along w, for every phase of it. Rows
// of at least `linesPerTask` lines go to one thread. `weights` is [R][S][T][tapFloats].
template <typename Body>
void forEachOutputRow(const Conv3dProblem& p, bool inputGradient, const float* source, const float* weights,
                      int64_t tapFloats, int64_t linesPerTask, Body body) {
  const int64_t strideD = inputGradient ? p.stride[0] : 1, strideH = inputGradient ? p.stride[1] : 1;
  const int64_t depth = inputGradient ? p.D : p.Z, height = inputGradient ? p.H : p.P;
  const int64_t sourceDepth = inputGradient ? p.Z : p.D, sourceHeight = inputGradient ? p.P : p.H;
  const int64_t sourceFloats = inputGradient ? p.Q * p.K : p.W * p.C;
  const int64_t phases = inputGradient ? std::min(p.stride[2], p.W) : 1;
  const int64_t lines = p.N * depth * height;
  parallelFor(divideUp(lines, linesPerTask), [&](int64_t task) {
    const float** const sources = threadScratch<const float*>(static_cast<size_t>(2 * p.R * p.S));
    const float** const rowWeights = sources + p.R * p.S;
    const int64_t end = std::min(lines, (task + 1) * linesPerTask);
    for (int64_t line = task * linesPerTask; line < end; ++line) {
      const int64_t h = line % height, d = line / height % depth, n = line / height / depth;
      const GatherAxis axisD = outputAxis(p, inputGradient, 0, d % strideD);
      const GatherAxis axisH = outputAxis(p, inputGradient, 1, h % strideH);
      int64_t rowTaps = 0;
      for (int64_t i = 0; i < axisD.taps; ++i) {
        const int64_t z = d / strideD * axisD.sourceStep + axisD.offset(i);
        if (z < 0 || z >= sourceDepth) continue;
        for (int64_t j = 0; j < axisH.taps; ++j) {
          const int64_t y = h / strideH * axisH.sourceStep + axisH.offset(j);
          if (y < 0 || y >= sourceHeight) continue;
          sources[rowTaps] = source + ((n * sourceDepth + z) * sourceHeight + y) * sourceFloats;
          rowWeights[rowTaps++] = weights + (axisD.tap(i) * p.S + axisH.tap(j)) * p.T * tapFloats;
        }
      }
      for (int64_t phase = 0; phase < phases; ++phase)
        body(OutputRow{line, outputAxis(p, inputGradient, 2, phase), sources, rowWeights, rowTaps});
    }
  });
}

}  // namespace voxgrad::cpu
