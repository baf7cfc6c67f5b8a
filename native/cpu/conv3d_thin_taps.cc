#include "conv3d_thin_taps.h"

#include "../core/thread_pool.h"
#include "conv3d_dense.h"

namespace voxgrad::cpu {

bool isThinWithTaps(const Conv3dProblem& p, bool inputGradient) {
  const int64_t reduced = inputGradient ? p.K : p.C, produced = inputGradient ? p.C : p.K;
  if (p.groups != 1 || produced > kMaxThinTapsChannels || isBlockwise(p)) return false;
  // Multiply-adds of a vector for each voxel; summing the lanes of one costs about as much, and the other
  // kernels fill half a vector where that is enough.
  const int64_t lanes = thinTapsKernels().lanes;
  const int64_t phases = inputGradient ? p.stride[0] * p.stride[1] * p.stride[2] : 1;
  const int64_t taps = divideUp(p.taps(), phases);
  return 2 * produced * (taps * divideUp(reduced, lanes) + 1) <
         taps * reduced * divideUp(2 * produced, lanes);
}

ThinWithTaps::ThinWithTaps(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      reduced_(inputGradient ? p.K : p.C),
      produced_(inputGradient ? p.C : p.K),
      sources_(p, inputGradient, (inputGradient ? p.Q : p.W) * reduced_,
               p.T * produced_ * thinTapsKernels().lanes, produced_ * thinTapsKernels().lanes) {}

size_t ThinWithTaps::packedFloats() const {
  const int64_t lanes = thinTapsKernels().lanes;
  return static_cast<size_t>(divideUp(reduced_, lanes) * lanes * problem_.taps() * produced_);
}

void ThinWithTaps::pack(const float* w, float* packed) const {
  const int64_t lanes = thinTapsKernels().lanes, taps = problem_.taps(), C = problem_.C;
  std::fill_n(packed, packedFloats(), 0.0f);
  for (int64_t k = 0; k < problem_.K; ++k) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t c = 0; c < C; ++c) {
        const int64_t from = inputGradient_ ? k : c, to = inputGradient_ ? c : k;
        packed[((from / lanes * taps + tap) * produced_ + to) * lanes + from % lanes] =
            w[(k * taps + tap) * C + c];
      }
    }
  }
}

void ThinWithTaps::run(const float* source, const float* packed, const float* bias, float* output,
                       void*) const {
  const Conv3dProblem& p = problem_;
  const ThinTapsKernels& kernels = thinTapsKernels();
  const int64_t tapFloats = produced_ * kernels.lanes, maxRows = kernels.maxRows[produced_ - 1];
  const int64_t depth = inputGradient_ ? p.D : p.Z, height = inputGradient_ ? p.H : p.P;
  const int64_t width = inputGradient_ ? p.W : p.Q;
  constexpr int64_t kTaskFloats = 1 << 16;
  const int64_t sourceWidth = inputGradient_ ? p.Q : p.W;
  const int64_t inPlane = divideUp(height, maxRows), groups = p.N * depth * inPlane;
  const int64_t taskGroups = divideUp(kTaskFloats, sourceWidth * reduced_ * maxRows);
  parallelFor(divideUp(groups, taskGroups), [&](int64_t task) {
    const int64_t end = std::min(groups, (task + 1) * taskGroups);
    for (int64_t group = task * taskGroups; group < end; ++group) {
      const int64_t plane = group / inPlane, h = group % inPlane * maxRows;
      const OutputRows rows{plane / depth, plane % depth, h, std::min(maxRows, height - h)};
      SourceRow* const sources = threadScratch<SourceRow>(static_cast<size_t>(sources_.most()));
      ThinTapsRows run;
      run.sources = sources;
      run.sourceRows = sources_.list(rows, source, packed, sources);
      run.sourceVoxels = sourceWidth;
      run.reduced = reduced_;
      run.vectorWeights = p.taps() * tapFloats;
      run.bias = bias;
      run.rows = rows.count;
      for (const auto& [axis, taps] : sources_.phases()) {
        run.taps = taps.data();
        run.runs = static_cast<int64_t>(taps.size());
        run.sourceStep = axis.sourceStep;
        run.nextTap = axis.tapStep * tapFloats;
        run.voxels = axis.count;
        run.outputStep = axis.outputStep;
        for (int64_t r = 0; r < rows.count; ++r)
          run.outputs[r] = output + ((plane * height + h + r) * width + axis.first) * produced_;
        kernels.run[produced_ - 1](run);
      }
    }
  });
}

}  // namespace voxgrad::cpu
