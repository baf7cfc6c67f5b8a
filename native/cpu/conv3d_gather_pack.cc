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
  const int64_t blocks = divideUp(vectors_, kMaxVectors);
  const int64_t perVector = floatsPerVector(phase);
  const auto packTask = [&](int64_t task) {
    const int64_t group = task / blocks, block = task % blocks;
    packBlock(phase, w, group, block, packed + (group * vectors_ + block * kMaxVectors) * perVector);
  };
  if (problem_.groups * vectors_ * perVector > 65536) {
    parallelFor(problem_.groups * blocks, packTask);
  } else {
    for (int64_t task = 0; task < problem_.groups * blocks; ++task) packTask(task);
  }
}

// Layout [rowTaps][segments][steps][vectors of the block, or shared taps][lanes].
void Gather::packBlock(const Phase& phase, const float* w, int64_t group, int64_t block,
                       float* packed) const {
  const int64_t cPerGroup = problem_.C / problem_.groups, kPerGroup = problem_.K / problem_.groups;
  const int64_t lanes = kernels_.lanes;
  const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
  const int64_t stepFloats = vectors * phase.tapsPerStep() * lanes, segmentFloats = phase.steps * stepFloats;
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  const float* const filters = w + group * kPerGroup * problem_.taps() * cPerGroup;
  if (reduction_ == 2) std::fill_n(packed, phase.rowTaps * phase.segments * segmentFloats, 0.0f);
  // Reading a slice of reduced channels at a time keeps the input gradient, whose reduced channels are whole
  // filters apart, from touching more memory pages than the processor has translations for.
  constexpr int64_t kSlice = 16;
  for (int64_t first = 0; first < reduced_; first += kSlice) {
    const int64_t count = reducedStride_ == 1 ? reduced_ : std::min(kSlice, reduced_ - first);
    for (int64_t rowTap = 0; rowTap < phase.rowTaps; ++rowTap) {
      const int64_t r = axisD.tap(rowTap / axisH.taps), s = axisH.tap(rowTap % axisH.taps);
      for (int64_t j = 0; j < axisW.taps; ++j) {
        const float* const tap = filters + ((r * kernel_[1] + s) * kernel_[2] + axisW.tap(j)) * cPerGroup;
        const int64_t segment = phase.segments > 1 ? j : 0;
        float* const to =
            packed + (rowTap * phase.segments + segment) * segmentFloats + (phase.shared ? j * lanes : 0);
        const int64_t start = (phase.segments > 1 || phase.shared ? 0 : j * reduced_) + first;  // in the run
        for (int64_t c = 0; reduction_ == 2 && c < count; ++c) {
          const int64_t at = start + c;
          for (int64_t k = 0; k < produced_; ++k) {
            to[at / 2 * stepFloats + 2 * k + at % 2] = tap[k * outputStride_ + (first + c) * reducedStride_];
          }
        }
        for (int64_t v = 0; reduction_ == 1 && v < vectors; ++v) {
          const int64_t output = (block * kMaxVectors + v) * lanes;
          const int64_t outputs = std::min(lanes, produced_ - output);
          const float* const from = tap + output * outputStride_ + first * reducedStride_;
          float* const column = to + start * stepFloats + v * lanes;
          if (reducedStride_ == 1) {
            kernels_.packTransposed(column, stepFloats, from, outputStride_, outputs, count);
            continue;
          }
          for (int64_t c = 0; c < count; ++c) {
            std::copy_n(from + c * reducedStride_, outputs, column + c * stepFloats);
            std::fill_n(column + c * stepFloats + outputs, lanes - outputs, 0.0f);
          }
        }
      }
    }
    if (reducedStride_ == 1) break;
  }
}

}  // namespace voxgrad::cpu
