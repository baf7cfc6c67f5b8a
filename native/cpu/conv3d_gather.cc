#include "conv3d_gather.h"

namespace voxgrad::cpu {
Gather::Gather(const Conv3dProblem& p, bool inputGradient)
    : problem_(p), kernels_(conv3dKernels()), inputGradient_(inputGradient) {
  const int64_t xExtent[3] = {p.D, p.H, p.W}, yExtent[3] = {p.Z, p.P, p.Q}, kernel[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis) {
    sourceExtent_[axis] = inputGradient ? yExtent[axis] : xExtent[axis];
    outputExtent_[axis] = inputGradient ? xExtent[axis] : yExtent[axis];
    kernel_[axis] = kernel[axis];
  }
  const int64_t cPerGroup = p.C / p.groups, kPerGroup = p.K / p.groups, filter = p.taps() * cPerGroup;
  sourceChannels_ = inputGradient ? p.yVoxel() : p.xVoxel();
  outputChannels_ = inputGradient ? p.xVoxel() : p.yVoxel();
  reduced_ = inputGradient ? kPerGroup : cPerGroup;
  produced_ = inputGradient ? cPerGroup : kPerGroup;
  outputStride_ = inputGradient ? 1 : filter;
  reducedStride_ = inputGradient ? filter : 1;
  reduction_ = produced_ * 2 <= kernels_.lanes ? 2 : 1;
  vectors_ = divideUp(produced_ * reduction_, kernels_.lanes);
  perTap_ = paysPerTap(reduced_, produced_, problem_.taps());

  forEachPhase([&](const Phase& phase) {
    packedFloats_ = phase.packed + problem_.groups * vectors_ * floatsPerVector(phase);
    const GatherAxis& axis = phase.axis[2];
    if (perTap_ || phase.rowTaps * axis.taps == 0) return;
    padLeft_ = std::max(padLeft_, -axis.minSource());
    padRight_ = std::max(padRight_, axis.maxSource() - (sourceExtent_[2] - 1));
    copies_ = copies_ || phase.run % reduction_ != 0;
  });
  copies_ = copies_ || padLeft_ > 0 || padRight_ > 0;
  if (!copies_) padLeft_ = padRight_ = 0;
  chooseEdges();
}

void Gather::chooseEdges() {
  const bool onePhase = !inputGradient_ || problem_.stride[0] * problem_.stride[1] * problem_.stride[2] == 1;
  if (!copies_ || !onePhase) return;
  const Phase phase = makePhase({0, 0, 0});
  const GatherAxis& axis = phase.axis[2];
  if (phase.rowTaps * axis.taps == 0) return;
  const Tiling tiling = tilingOf(phase);
  const int64_t voxels = tiling.voxels, groups = tiling.groupsPerRow;
  const int64_t overread = phase.run % reduction_ != 0 ? 1 : 0;
  const int64_t groupReach = (voxels - 1) * axis.sourceStep + axis.offset(axis.taps - 1);
  const bool innerInside = voxels * axis.sourceStep + axis.minSource() >= 0 &&
                           (groups - 2) * voxels * axis.sourceStep + groupReach + overread < sourceExtent_[2];
  edgeVoxels_ = groupReach - axis.minSource() + 1;
  edgeOrigin_[0] = axis.minSource();
  edgeOrigin_[1] = (axis.count - voxels) * axis.sourceStep + axis.minSource();
  const bool edgesInside = edgeOrigin_[0] + edgeVoxels_ > 0 && edgeOrigin_[1] < sourceExtent_[2];
  if (groups < 4 || !innerInside || !edgesInside || edgeVoxels_ > sourceExtent_[2]) return;
  edges_ = true;
  copies_ = false;
  padLeft_ = padRight_ = 0;
}

void Gather::pack(const float* w, float* packed) const {
  packed[0] = 0;
  forEachPhase([&](const Phase& phase) { packPhase(phase, w, packed + phase.packed); });
}

template <typename Visit>
void Gather::forEachPhase(Visit visit) const {
  int64_t phases[3] = {1, 1, 1}, packed = 0;
  for (int axis = 0; axis < 3 && inputGradient_; ++axis) {
    phases[axis] = std::min(problem_.stride[axis], outputExtent_[axis]);
  }
  for (int64_t d = 0; d < phases[0]; ++d) {
    for (int64_t h = 0; h < phases[1]; ++h) {
      for (int64_t w = 0; w < phases[2]; ++w) {
        Phase phase = makePhase({d, h, w});
        phase.packed = packed;
        packed += problem_.groups * vectors_ * floatsPerVector(phase);
        visit(phase);
      }
    }
  }
}

Gather::Phase Gather::makePhase(const int64_t (&at)[3]) const {
  Phase phase;
  for (int a = 0; a < 3; ++a) {
    const int64_t stride = problem_.stride[a], pad = problem_.pad[a], dilation = problem_.dilation[a];
    phase.axis[a] =
        inputGradient_
            ? gradientAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad, dilation, at[a])
            : forwardAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad, dilation);
  }
  phase.rowTaps = phase.axis[0].taps * phase.axis[1].taps;
  const GatherAxis& w = phase.axis[2];
  // An odd run of channels pairs its last one with a float of the next voxel, against a zero weight.
  phase.shared = w.taps == 3 && w.offsetStep == 1 && w.sourceStep == 1 && w.count >= 4 && vectors_ == 1 &&
                 (reduction_ == 1 || reduced_ % 2 == 0);
  const bool oneRun = phase.shared || w.taps <= 1 || (w.offsetStep == 1 && problem_.groups == 1 && !perTap_);
  phase.segments = oneRun ? std::min<int64_t>(w.taps, 1) : w.taps;
  phase.run = oneRun && !phase.shared ? w.taps * reduced_ : reduced_;
  phase.steps = divideUp(phase.run, reduction_);
  phase.packed = 0;
  return phase;
}

int64_t Gather::floatsPerVector(const Phase& phase) const {
  return phase.rowTaps * phase.segments * phase.steps * phase.tapsPerStep() * kernels_.lanes;
}

size_t Gather::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  cursor.floats(paddedRow() + kSlack);
  if (copies_) cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
  if (edges_)
    cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * 2 * edgeVoxels_ * sourceChannels_ +
                  kSlack);
  return cursor.used();
}

void Gather::run(const float* source, const float* packed, const float* bias, float* output,
                 void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const packedBias = cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  float* const zeroRow = cursor.floats(paddedRow() + kSlack);
  packBias(bias, packedBias);
  std::fill_n(zeroRow, paddedRow() + kSlack, 0.0f);
  if (copies_) {
    float* const padded =
        cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
    padSource(source, padded);
    source = padded;
  }
  float* edges = nullptr;
  if (edges_) {
    edges = cursor.floats(
        problem_.N * sourceExtent_[0] * sourceExtent_[1] * 2 * edgeVoxels_ * sourceChannels_ + kSlack);
    copyEdges(source, edges);
  }
  forEachPhase([&](const Phase& phase) {
    const Buffers buffers{source, edges, zeroRow, packed + phase.packed, packedBias, output};
    perTap_ ? runTaps(phase, buffers) : runPhase(phase, buffers);
  });
}

// The number of the first voxel of a row of the phase in the output.
int64_t Gather::outputRowOf(const Phase& phase, int64_t n, int64_t z, int64_t p) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1];
  const int64_t row = (n * outputExtent_[0] + axisD.first + z * axisD.outputStep) * outputExtent_[1] +
                      axisH.first + p * axisH.outputStep;
  return row * outputExtent_[2] + phase.axis[2].first;
}

}  // namespace voxgrad::cpu
