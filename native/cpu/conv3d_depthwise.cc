#include "conv3d_depthwise.h"

#include <algorithm>

#include "../core/thread_pool.h"
#include "conv3d_geometry.h"
#include "isa.h"

namespace voxgrad::cpu {
namespace {

// Voxels axis.first + i*axis.outputStep of one row of outputs.
struct OutputRow {
  int64_t line;  // rows before this one
  GatherAxis axis;
  const float* const* sources;  // [rowTaps]: rows of the source
  const float* const* weights;  // [rowTaps]: those of the row's taps, [T][channels]
  int64_t rowTaps;
};

// Calls body(row) for every row, or, of an input gradient with a stride along w, for every phase of it.
// `weights` is [R][S][T][channels].
template <typename Body>
void forEachOutputRow(const Conv3dProblem& p, bool inputGradient, const float* source, const float* weights,
                      Body body) {
  const int64_t strideD = inputGradient ? p.stride[0] : 1, strideH = inputGradient ? p.stride[1] : 1;
  const int64_t depth = inputGradient ? p.D : p.Z, height = inputGradient ? p.H : p.P;
  const int64_t sourceDepth = inputGradient ? p.Z : p.D, sourceHeight = inputGradient ? p.P : p.H;
  const int64_t sourceFloats = inputGradient ? p.Q * p.K : p.W * p.C;
  const int64_t phases = inputGradient ? std::min(p.stride[2], p.W) : 1;
  const int64_t lines = p.N * depth * height;
  parallelFor(lines, [&](int64_t line) {
    const float** const sources = threadScratch<const float*>(static_cast<size_t>(2 * p.R * p.S));
    const float** const rowWeights = sources + p.R * p.S;
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
        rowWeights[rowTaps++] = weights + (axisD.tap(i) * p.S + axisH.tap(j)) * p.T * p.C;
      }
    }
    for (int64_t phase = 0; phase < phases; ++phase)
      body(OutputRow{line, outputAxis(p, inputGradient, 2, phase), sources, rowWeights, rowTaps});
  });
}

}  // namespace

void Depthwise::pack(const float* w, float* packed) const {
  const int64_t channels = problem_.C, taps = problem_.taps();
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t tap = 0; tap < taps; ++tap) packed[tap * channels + channel] = w[channel * taps + tap];
  }
}

void Depthwise::run(const float* source, const float* packed, const float* bias, float* output, void*) const {
  const int64_t channels = problem_.C, sourceVoxels = inputGradient_ ? problem_.Q : problem_.W;
  const int64_t outputVoxels = inputGradient_ ? problem_.W : problem_.Q;
  forEachOutputRow(problem_, inputGradient_, source, packed, [&](const OutputRow& row) {
    const GatherAxis& axis = row.axis;
    float* const first = output + (row.line * outputVoxels + axis.first) * channels;
    conv3dKernels().depthwise({row.sources, row.weights, row.rowTaps, axis.taps, axis.firstTap, axis.tapStep,
                               axis.firstOffset, axis.offsetStep, axis.sourceStep, sourceVoxels, first,
                               axis.count, axis.outputStep, bias, channels});
  });
}

void DepthwiseWeightGradient::run(const float* x, const float* dy, float* dw, void*) const {
  const Conv3dProblem& p = problem_;
  const Conv3dKernels& kernels = conv3dKernels();
  constexpr int64_t kMaxLanes = 16;
  const int64_t taps = p.taps(), lanes = kernels.lanes;
  parallelFor((p.C + lanes - 1) / lanes * taps, [&](int64_t task) {
    const int64_t tap = task % taps, channel = task / taps * lanes;
    const int64_t r = tap / (p.S * p.T), s = tap / p.T % p.S, t = tap % p.T;
    const GatherAxis axes[3] = {forwardAxis(p.D, 1, p.Z, p.stride[0], p.pad[0] - r * p.dilation[0], 1),
                                forwardAxis(p.H, 1, p.P, p.stride[1], p.pad[1] - s * p.dilation[1], 1),
                                forwardAxis(p.W, 1, p.Q, p.stride[2], p.pad[2] - t * p.dilation[2], 1)};
    alignas(64) float sums[kMaxLanes] = {};
    DepthwiseSum sum = {};
    sum.channels = std::min(lanes, p.C - channel);
    sum.xStride = p.stride[2] * p.C;
    sum.dyStride = p.C;
    sum.sums = sums;
    // Outputs [begin, end) of an axis read inside x through this tap.
    int64_t begin[3], end[3];
    for (int axis = 0; axis < 3; ++axis) {
      const GatherAxis& a = axes[axis];
      const int64_t offset = a.firstOffset, step = a.sourceStep;
      begin[axis] = offset < 0 ? (-offset + step - 1) / step : 0;
      end[axis] = offset < a.sourceExtent ? std::min(a.count, (a.sourceExtent - 1 - offset) / step + 1) : 0;
    }
    sum.voxels = end[2] - begin[2];
    for (int64_t n = 0; n < p.N && sum.voxels > 0; ++n) {
      for (int64_t z = begin[0]; z < end[0]; ++z) {
        for (int64_t q = begin[1]; q < end[1]; ++q) {
          const int64_t d = z * p.stride[0] + axes[0].firstOffset, h = q * p.stride[1] + axes[1].firstOffset;
          const int64_t w = begin[2] * p.stride[2] + axes[2].firstOffset;
          kernels.depthwiseSum(x + (((n * p.D + d) * p.H + h) * p.W + w) * p.C + channel,
                               dy + (((n * p.Z + z) * p.P + q) * p.Q + begin[2]) * p.C + channel, sum);
        }
      }
    }
    for (int64_t lane = 0; lane < sum.channels; ++lane) dw[(channel + lane) * taps + tap] = sums[lane];
  });
}

}  // namespace voxgrad::cpu
