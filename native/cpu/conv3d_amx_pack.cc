// How the weights of a convolution on the matrix unit are packed: cut into parts, once for all voxels.
#include "../core/thread_pool.h"
#include "conv3d_amx.h"

namespace voxgrad::cpu {

int64_t AmxConvolution::stepsOf(int64_t chunk) const {
  return std::min(kChunkSteps, steps_ - chunk * kChunkSteps);
}

// Layout [taps][chunks][columns][steps of the chunk].
const char* AmxConvolution::panelOf(const float* packed, int64_t tap, int64_t chunk, int64_t column) const {
  const int64_t step = (tap * steps_ + chunk * kChunkSteps) * columns_ + column * stepsOf(chunk);
  return reinterpret_cast<const char*>(packed) + step * kAmxStepBytes;
}

size_t AmxConvolution::packedFloats() const {
  return static_cast<size_t>(problem_.taps() * steps_ * columns_ * kAmxStepBytes) / sizeof(float);
}

void AmxConvolution::pack(const float* w, float* packed) const {
  const int64_t filter = problem_.taps() * problem_.C;
  const auto to = [&](int64_t tap, int64_t chunk, int64_t column) {
    return const_cast<char*>(panelOf(packed, tap, chunk, column));
  };
  if (!inputGradient_) {
    parallelFor(problem_.taps() * columns_, [&](int64_t task) {
      const int64_t tap = task / columns_, column = task % columns_;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const int64_t first = chunk * kChunkSteps * kAmxDepth;
        const float* filters[kAmxColumns];
        for (int64_t i = 0; i < kAmxColumns; ++i) {
          const int64_t k = column * kAmxColumns + i;
          filters[i] = k < problem_.K ? w + k * filter + tap * problem_.C + first : nullptr;
        }
        kernels_.splitFilters(to(tap, chunk, column), filters,
                              std::min(problem_.C - first, stepsOf(chunk) * kAmxDepth));
      }
    });
    return;
  }
  parallelFor(problem_.taps() * steps_, [&](int64_t task) {
    const int64_t tap = task / steps_, step = task % steps_, chunk = step / kChunkSteps;
    const float* rows[kAmxDepth];
    for (int64_t i = 0; i < kAmxDepth; ++i) {
      const int64_t k = step * kAmxDepth + i;
      rows[i] = k < problem_.K ? w + k * filter + tap * problem_.C : nullptr;
    }
    kernels_.splitColumns(to(tap, chunk, 0) + step % kChunkSteps * kAmxStepBytes,
                          stepsOf(chunk) * kAmxStepBytes, rows, problem_.C, nullptr);
  });
}

}  // namespace voxgrad::cpu
