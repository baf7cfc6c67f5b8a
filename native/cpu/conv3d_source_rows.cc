#include "conv3d_source_rows.h"

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
namespace {

// What an output reads along an axis: the offsets of the axis, from an origin of its own.
struct Reader {
  const GatherAxis* axis;
  int64_t origin;
};

Reader readerOf(const std::vector<GatherAxis>& phases, int64_t at) {
  const int64_t count = static_cast<int64_t>(phases.size());
  const GatherAxis& axis = phases[static_cast<size_t>(at % count)];
  return {&axis, at / count * axis.sourceStep};
}

}  // namespace

SourceRows::SourceRows(const Conv3dProblem& p, bool inputGradient, int64_t channels, int64_t tapFloats)
    : problem_(p),
      inputGradient_(inputGradient),
      depth_(inputGradient ? p.Z : p.D),
      height_(inputGradient ? p.P : p.H),
      width_(inputGradient ? p.Q : p.W),
      channels_(channels),
      tapFloats_(tapFloats),
      axesD_(axesOf(0)),
      axesH_(axesOf(1)) {
  for (const GatherAxis& axis : axesOf(2)) {
    phases_.push_back({axis, {}});
    const int64_t longest = axis.offsetStep == axis.sourceStep ? kMaxTapRun : 1;
    for (int64_t j = 0; j < axis.taps; j += longest)
      phases_.back().taps.push_back(
          {axis.offset(j), axis.tap(j) * tapFloats_, std::min(longest, axis.taps - j)});
  }
}

std::vector<GatherAxis> SourceRows::axesOf(int a) const {
  const int64_t x[3] = {problem_.D, problem_.H, problem_.W};
  std::vector<GatherAxis> axes;
  for (int64_t phase = 0; phase < (inputGradient_ ? std::min(problem_.stride[a], x[a]) : 1); ++phase)
    axes.push_back(outputAxis(problem_, inputGradient_, a, phase));
  return axes;
}

// How many rows of the source some rows of outputs read at most.
int64_t SourceRows::most() const {
  int64_t planes = 0, first = height_, last = -height_, step = 1;
  for (const GatherAxis& axis : axesD_) planes = std::max(planes, axis.taps);
  for (const GatherAxis& axis : axesH_) {
    if (axis.taps == 0) continue;
    first = std::min(first, axis.offset(0));
    last = std::max(last, axis.offset(axis.taps - 1));
    step = std::max(step, axis.sourceStep);
  }
  return planes * std::clamp<int64_t>(last - first + 1 + (kMaxOutputRows - 1) * step, 0, height_);
}

// What some rows of outputs read, in order, is written to `all`, which has room for most(); how many they
// are.
int64_t SourceRows::list(const Rows& rows, const float* source, const float* packed, SourceRow* all) const {
  const int64_t rowFloats = width_ * channels_, rowWeights = problem_.T * tapFloats_;
  const auto [axisD, originD] = readerOf(axesD_, rows.d);
  // Rows of a plane lie between the first and the last that any output reads.
  Reader readers[kMaxOutputRows];
  int64_t first = height_, last = -1;
  for (int64_t r = 0; r < rows.count; ++r) {
    const auto [axis, origin] = readers[r] = readerOf(axesH_, rows.h + r);
    if (axis->taps == 0) continue;
    first = std::min(first, std::max<int64_t>(0, origin + axis->offset(0)));
    last = std::max(last, std::min(height_ - 1, origin + axis->offset(axis->taps - 1)));
  }
  const int64_t span = std::max<int64_t>(0, last + 1 - first);
  int64_t count = 0;
  for (int64_t i = 0; i < axisD->taps; ++i) {
    const int64_t z = originD + axisD->offset(i);
    if (z < 0 || z >= depth_) continue;
    SourceRow* const plane = all + count;
    const float* const from = source + ((rows.sample * depth_ + z) * height_ + first) * rowFloats;
    for (int64_t y = 0; y < span; ++y) {
      // What the next rows of outputs read besides.
      const bool fetches = y + rows.count >= span && first + y + rows.count < height_;
      const float* const row = from + y * rowFloats;
      plane[y] = {row, {}, fetches ? row + rows.count * rowFloats : nullptr};
    }
    for (int64_t r = 0; r < rows.count; ++r) {
      const auto [axis, origin] = readers[r];
      const float* const tapWeights = packed + axisD->tap(i) * problem_.S * rowWeights;
      for (int64_t j = 0; j < axis->taps; ++j) {
        const int64_t y = origin + axis->offset(j);
        if (y >= first && y <= last) plane[y - first].weights[r] = tapWeights + axis->tap(j) * rowWeights;
      }
    }
    for (int64_t y = 0; y < span; ++y) {
      if (plane[y].weights[0] || plane[y].weights[1]) all[count++] = plane[y];
    }
  }
  return count;
}

void SourceRows::run(const Call& call, const float* source, const float* packed, const float* bias,
                     float* output) const {
  const Conv3dProblem& p = problem_;
  const int64_t depth = inputGradient_ ? p.D : p.Z, height = inputGradient_ ? p.H : p.P;
  const int64_t width = inputGradient_ ? p.W : p.Q;
  const int64_t inPlane = divideUp(height, call.rows), groups = p.N * depth * inPlane;
  const int64_t groupFloats = call.rows * std::max(width * call.outputChannels, width_ * channels_);
  const int64_t taskGroups = divideUp(call.taskFloats, groupFloats), mostSources = most();
  parallelFor(divideUp(groups, taskGroups), [&](int64_t task) {
    SourceRow* const sources = threadScratch<SourceRow>(static_cast<size_t>(mostSources));
    const int64_t end = std::min(groups, (task + 1) * taskGroups);
    for (int64_t group = task * taskGroups; group < end; ++group) {
      const int64_t plane = group / inPlane, h = group % inPlane * call.rows;
      const Rows some{plane / depth, plane % depth, h, std::min(call.rows, height - h)};
      GatheredRows rows;
      rows.sources = sources;
      rows.sourceRows = list(some, source, packed, sources);
      rows.sourceVoxels = width_;
      rows.channels = channels_;
      rows.vectorWeights = call.vectorWeights;
      rows.bias = bias;
      rows.rows = some.count;
      rows.fetches = call.fetches;
      for (const auto& [axis, taps] : phases_) {
        rows.taps = taps.data();
        rows.runs = static_cast<int64_t>(taps.size());
        rows.sourceStep = axis.sourceStep;
        rows.nextTap = axis.tapStep * tapFloats_;
        rows.voxels = axis.count;
        rows.outputStep = axis.outputStep;
        for (int64_t r = 0; r < some.count; ++r)
          rows.outputs[r] = output + ((plane * height + h + r) * width + axis.first) * call.outputChannels;
        call.kernel(rows);
      }
    }
  });
}

}  // namespace voxgrad::cpu
