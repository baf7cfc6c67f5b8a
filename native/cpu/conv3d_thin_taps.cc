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
      produced_(inputGradient ? p.C : p.K) {}

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

std::vector<GatherAxis> ThinWithTaps::axes(int a) const {
  const Conv3dProblem& p = problem_;
  const int64_t x[3] = {p.D, p.H, p.W};
  std::vector<GatherAxis> phases;
  for (int64_t phase = 0; phase < (inputGradient_ ? std::min(p.stride[a], x[a]) : 1); ++phase)
    phases.push_back(outputAxis(p, inputGradient_, a, phase));
  return phases;
}

// Some neighbouring rows of outputs of one plane.
struct ThinWithTaps::Rows {
  int64_t sample, d, h, count;
};

struct ThinWithTaps::Axes {
  std::vector<GatherAxis> d, h, w;
};

// The rows of the source that the outputs read, in order, in scratch of this thread.
std::pair<const ThinSourceRow*, int64_t> ThinWithTaps::sourcesOf(const Rows& rows, const Axes& axes,
                                                                 const float* source,
                                                                 const float* packed) const {
  const Conv3dProblem& p = problem_;
  const int64_t depth = inputGradient_ ? p.Z : p.D, height = inputGradient_ ? p.P : p.H;
  const int64_t rowFloats = (inputGradient_ ? p.Q : p.W) * reduced_;
  const int64_t rowWeights = p.T * produced_ * thinTapsKernels().lanes;
  // What an output reads along an axis: the offsets of the axis, from an origin of its own.
  struct Reader {
    const GatherAxis* axis;
    int64_t origin;
  };
  const auto readerOf = [](const std::vector<GatherAxis>& phases, int64_t at) -> Reader {
    const int64_t count = static_cast<int64_t>(phases.size());
    const GatherAxis& axis = phases[static_cast<size_t>(at % count)];
    return {&axis, at / count * axis.sourceStep};
  };
  const auto [axisD, originD] = readerOf(axes.d, rows.d);
  // Rows of a plane lie between the first and the last that any output reads.
  Reader readers[kMaxThinRows];
  int64_t first = height, last = -1;
  for (int64_t r = 0; r < rows.count; ++r) {
    const auto [axis, origin] = readers[r] = readerOf(axes.h, rows.h + r);
    if (axis->taps == 0) continue;
    first = std::min(first, std::max<int64_t>(0, origin + axis->offset(0)));
    last = std::max(last, std::min(height - 1, origin + axis->offset(axis->taps - 1)));
  }
  const int64_t span = std::max<int64_t>(0, last + 1 - first);
  ThinSourceRow* const all = threadScratch<ThinSourceRow>(static_cast<size_t>(axisD->taps * span));
  int64_t count = 0;
  for (int64_t i = 0; i < axisD->taps; ++i) {
    const int64_t z = originD + axisD->offset(i);
    if (z < 0 || z >= depth) continue;
    ThinSourceRow* const plane = all + count;
    const float* const from = source + ((rows.sample * depth + z) * height + first) * rowFloats;
    for (int64_t y = 0; y < span; ++y) {
      // What the next rows of outputs read besides.
      const bool fetches = y + rows.count >= span && first + y + rows.count < height;
      const float* const row = from + y * rowFloats;
      plane[y] = {row, {}, fetches ? row + rows.count * rowFloats : nullptr};
    }
    for (int64_t r = 0; r < rows.count; ++r) {
      const auto [axis, origin] = readers[r];
      const float* const tapWeights = packed + axisD->tap(i) * p.S * rowWeights;
      for (int64_t j = 0; j < axis->taps; ++j) {
        const int64_t y = origin + axis->offset(j);
        if (y >= first && y <= last) plane[y - first].weights[r] = tapWeights + axis->tap(j) * rowWeights;
      }
    }
    for (int64_t y = 0; y < span; ++y) {
      if (plane[y].weights[0] || plane[y].weights[1]) all[count++] = plane[y];
    }
  }
  return {all, count};
}

void ThinWithTaps::run(const float* source, const float* packed, const float* bias, float* output,
                       void*) const {
  const Conv3dProblem& p = problem_;
  const ThinTapsKernels& kernels = thinTapsKernels();
  const int64_t tapFloats = produced_ * kernels.lanes, maxRows = kernels.maxRows[produced_ - 1];
  const int64_t depth = inputGradient_ ? p.D : p.Z, height = inputGradient_ ? p.H : p.P;
  const int64_t width = inputGradient_ ? p.W : p.Q;
  const Axes axes{this->axes(0), this->axes(1), this->axes(2)};
  std::vector<std::vector<ThinTaps>> taps;  // of each phase along w
  for (const GatherAxis& axis : axes.w) {
    const int64_t longest = axis.offsetStep == axis.sourceStep ? kMaxThinTaps : 1;
    taps.emplace_back();
    for (int64_t j = 0; j < axis.taps; j += longest)
      taps.back().push_back({axis.offset(j), axis.tap(j) * tapFloats, std::min(longest, axis.taps - j)});
  }
  constexpr int64_t kTaskFloats = 1 << 16;
  const int64_t sourceWidth = inputGradient_ ? p.Q : p.W;
  const int64_t inPlane = divideUp(height, maxRows), groups = p.N * depth * inPlane;
  const int64_t taskGroups = divideUp(kTaskFloats, sourceWidth * reduced_ * maxRows);
  parallelFor(divideUp(groups, taskGroups), [&](int64_t task) {
    const int64_t end = std::min(groups, (task + 1) * taskGroups);
    for (int64_t group = task * taskGroups; group < end; ++group) {
      const int64_t plane = group / inPlane, h = group % inPlane * maxRows;
      const Rows rows{plane / depth, plane % depth, h, std::min(maxRows, height - h)};
      const auto [sources, count] = sourcesOf(rows, axes, source, packed);
      ThinTapsRows run;
      run.sources = sources;
      run.sourceRows = count;
      run.sourceVoxels = sourceWidth;
      run.reduced = reduced_;
      run.vectorWeights = p.taps() * tapFloats;
      run.bias = bias;
      run.rows = rows.count;
      for (size_t phase = 0; phase < axes.w.size(); ++phase) {
        const GatherAxis& axis = axes.w[phase];
        run.taps = taps[phase].data();
        run.runs = static_cast<int64_t>(taps[phase].size());
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
