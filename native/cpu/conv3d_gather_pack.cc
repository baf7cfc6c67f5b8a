// What a gather prepares in its workspace: rows with zeros around them, and packed weights.
#include <cstring>

#include "../core/thread_pool.h"
#include "conv3d_gather.h"

namespace voxgrad::cpu {

void Gather::padSource(const float* source, float* padded) const {
  const int64_t rows = problem_.N * sourceExtent_[0] * sourceExtent_[1];
  const int64_t row = sourceExtent_[2] * sourceChannels_, left = padLeft_ * sourceChannels_;
  const int64_t paddedRowFloats = paddedRow();
  const int64_t rowsPerTask = std::max<int64_t>(1, 16384 / paddedRowFloats);
  parallelFor(divideUp(rows, rowsPerTask), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * rowsPerTask);
    for (int64_t r = task * rowsPerTask; r < end; ++r) {
      float* const to = padded + r * paddedRowFloats;
      std::fill_n(to, left, 0.0f);
      std::memcpy(to + left, source + r * row, static_cast<size_t>(row) * sizeof(float));
      std::fill(to + left + row, to + paddedRowFloats, 0.0f);
    }
  });
  std::fill_n(padded + rows * paddedRowFloats, kSlack, 0.0f);
}

void Gather::copyEdges(const float* source, float* edges) const {
  const int64_t rows = problem_.N * sourceExtent_[0] * sourceExtent_[1];
  const int64_t edgeFloats = edgeVoxels_ * sourceChannels_;
  constexpr int64_t kRowsPerTask = 256;
  parallelFor(divideUp(rows, kRowsPerTask), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t edge = task * kRowsPerTask * 2; edge < end * 2; ++edge) {
      const float* const row = source + edge / 2 * sourceExtent_[2] * sourceChannels_;
      const int64_t origin = edgeOrigin_[edge % 2];
      const int64_t first = std::max<int64_t>(0, origin),
                    last = std::min(sourceExtent_[2], origin + edgeVoxels_);
      float* const to = edges + edge * edgeFloats;
      float* const inside = std::fill_n(to, (first - origin) * sourceChannels_, 0.0f);
      std::fill(std::copy(row + first * sourceChannels_, row + last * sourceChannels_, inside),
                to + edgeFloats, 0.0f);
    }
  });
  std::fill_n(edges + rows * 2 * edgeFloats, kSlack, 0.0f);
}

void Gather::packBias(const float* bias, float* packed) const {
  const int64_t perGroup = vectors_ * kernels_.lanes;
  std::fill_n(packed, problem_.groups * perGroup, 0.0f);
  if (!bias) return;
  // With two lanes per channel the kernel has summed the pairs of two voxels: one half of the vector each.
  const int64_t copies = reduction_, half = kernels_.lanes / 2;
  for (int64_t group = 0; group < problem_.groups; ++group) {
    for (int64_t copy = 0; copy < copies; ++copy) {
      for (int64_t k = 0; k < produced_; ++k) {
        packed[group * perGroup + copy * half + k] = bias[group * produced_ + k];
      }
    }
  }
}

void Gather::packPhase(const Phase& phase, const float* w, float* packed) const {
  // Of an input gradient the reduced channels are whole filters apart. All vectors of some of them at a time
  // read filters from end to end, and touch no more memory pages than the processor has translations for.
  constexpr int64_t kSlice = 16;
  const bool slices = reducedStride_ != 1;
  const int64_t blocks = divideUp(vectors_, kMaxVectors),
                parts = slices ? divideUp(reduced_, kSlice) : blocks;
  const auto packTask = [&](int64_t task) {
    const int64_t group = task / parts, part = task % parts;
    if (slices)
      packPart(phase, w, group, {0, blocks}, {part * kSlice, std::min(reduced_, (part + 1) * kSlice)},
               packed);
    else
      packPart(phase, w, group, {part, part + 1}, {0, reduced_}, packed);
  };
  const int64_t floats = problem_.groups * vectors_ * floatsPerVector(phase);
  if (reduction_ == 2) std::fill_n(packed, floats, 0.0f);
  if (floats > 65536) {
    parallelFor(problem_.groups * parts, packTask);
  } else {
    for (int64_t task = 0; task < problem_.groups * parts; ++task) packTask(task);
  }
}

// Layout [group][block of vectors][rowTaps][segments][steps][vectors of the block, or shared taps][lanes].
void Gather::packPart(const Phase& phase, const float* w, int64_t group, Range blocks, Range reduced,
                      float* packed) const {
  const int64_t cPerGroup = problem_.C / problem_.groups, kPerGroup = problem_.K / problem_.groups;
  const int64_t lanes = kernels_.lanes, perVector = floatsPerVector(phase);
  const int64_t first = reduced.first, count = reduced.end - first;
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  const float* const filters = w + group * kPerGroup * problem_.taps() * cPerGroup;
  packed += group * vectors_ * perVector;
  for (int64_t rowTap = 0; rowTap < phase.rowTaps; ++rowTap) {
    const int64_t r = axisD.tap(rowTap / axisH.taps), s = axisH.tap(rowTap % axisH.taps);
    for (int64_t j = 0; j < axisW.taps; ++j) {
      const float* const tap = filters + ((r * kernel_[1] + s) * kernel_[2] + axisW.tap(j)) * cPerGroup;
      const int64_t segment = rowTap * phase.segments + (phase.segments > 1 ? j : 0);
      const int64_t start = (phase.segments > 1 || phase.shared ? 0 : j * reduced_) + first;  // in the run
      for (int64_t block = blocks.first; block < blocks.end; ++block) {
        const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
        const int64_t stepFloats = vectors * phase.tapsPerStep() * lanes;
        float* const to = packed + block * kMaxVectors * perVector + segment * phase.steps * stepFloats +
                          (phase.shared ? j * lanes : 0);
        for (int64_t c = 0; reduction_ == 2 && c < count; ++c) {
          const int64_t at = start + c;
          for (int64_t k = 0; k < produced_; ++k) {
            to[at / 2 * stepFloats + 2 * k + at % 2] = tap[k * outputStride_ + (first + c) * reducedStride_];
          }
        }
        for (int64_t v = 0; reduction_ == 1 && v < vectors; ++v) {
          const int64_t output = (block * kMaxVectors + v) * lanes;
          const auto pack = reducedStride_ == 1 ? kernels_.packTransposed : kernels_.packRows;
          pack(to + start * stepFloats + v * lanes, stepFloats,
               tap + output * outputStride_ + first * reducedStride_,
               reducedStride_ == 1 ? outputStride_ : reducedStride_, std::min(lanes, produced_ - output),
               count);
        }
      }
    }
  }
}

}  // namespace voxgrad::cpu
