#include "conv3d_depthwise.h"

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kMostSlabs = 16, kBlockChannels = 64;

int64_t toVectors(int64_t channels) {
  const int64_t lanes = depthwiseKernels().lanes;
  return divideUp(channels, lanes) * lanes;
}

}  // namespace

bool isDepthwise(const Conv3dProblem& p) {
  // Longer rows of taps than any network has are left to the kernels of groups.
  return p.groups > 1 && p.C == p.groups && p.K == p.groups && p.T <= kMaxDepthwiseRuns;
}

Depthwise::Depthwise(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      inputGradient_(inputGradient),
      lanes_(depthwiseKernels().lanes),
      vectors_(divideUp(p.C, lanes_)),
      sources_(p, inputGradient, p.C, lanes_) {}

// [vectors][R][S][T][lanes]
void Depthwise::pack(const float* w, float* packed) const {
  const int64_t taps = problem_.taps();
  std::fill_n(packed, packedFloats(), 0.0f);
  for (int64_t c = 0; c < problem_.C; ++c)
    for (int64_t tap = 0; tap < taps; ++tap)
      packed[(c / lanes_ * taps + tap) * lanes_ + c % lanes_] = w[c * taps + tap];
}

void Depthwise::run(const float* source, const float* packed, const float* bias, float* output, void*) const {
  const Conv3dProblem& p = problem_;
  constexpr int64_t kTaskFloats = 1 << 14, kCachedFloats = 3 << 20;
  const bool fetches = p.N * std::max(p.D * p.H * p.W, p.Z * p.P * p.Q) * p.C > kCachedFloats;
  sources_.run({depthwiseKernels().run, kMaxOutputRows, kTaskFloats, p.C, p.taps() * lanes_, fetches}, source,
               packed, bias, output);
}

DepthwiseWeightGradient::DepthwiseWeightGradient(const Conv3dProblem& p)
    : problem_(p),
      kernels_(depthwiseKernels()),
      pitch_(toVectors(p.C)),
      lines_(p.N * p.Z * p.P),
      slabs_(std::min(kMostSlabs, lines_)),
      blocks_(divideUp(p.C, kBlockChannels)) {
  const auto reached = [&p](int64_t tap) {
    return reachedOutputs(p.Q, p.W, p.stride[2], tap * p.dilation[2] - p.pad[2]);
  };
  const auto add = [this](const Run& run) {
    if (run.first < run.last) runs_.push_back(run);
  };
  for (int64_t tap = 0; tap < p.T; tap += kMaxTapRun) {
    const int64_t taps = std::min<int64_t>(kMaxTapRun, p.T - tap);
    // The first tap reaches the source last, and the last one leaves it first.
    const int64_t first = reached(tap).first, last = std::max(first, reached(tap + taps - 1).last);
    add({tap, taps, first, last});
    for (int64_t t = tap; t < tap + taps; ++t) {
      const auto [own, ownEnd] = reached(t);
      add({t, 1, own, first < last ? std::min(first, ownEnd) : ownEnd});
      if (first < last) add({t, 1, std::max(last, own), ownEnd});
    }
  }
}

size_t DepthwiseWeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(slabs_ * problem_.taps() * pitch_);
  return cursor.used();
}

// Adds what a line of dy is to the sums [taps][pitch] of some channels.
void DepthwiseWeightGradient::sumLine(const float* x, const float* dy, int64_t line, int64_t channel,
                                      int64_t end, float* sums) const {
  const Conv3dProblem& p = problem_;
  const int64_t n = line / (p.Z * p.P), z = line / p.P % p.Z, q = line % p.P;
  DepthwiseSums work;
  work.xStep = p.stride[2];
  work.tapStep = p.dilation[2];
  work.channels = p.C;
  work.first = channel;
  work.end = end;
  work.nextSum = pitch_;
  for (int64_t r = 0; r < p.R; ++r) {
    const int64_t d = z * p.stride[0] + r * p.dilation[0] - p.pad[0];
    if (d < 0 || d >= p.D) continue;
    int64_t rows = 0;
    const float* from[kMaxDepthwiseRows];
    float* to[kMaxDepthwiseRows];
    for (int64_t s = 0; s < p.S; ++s) {
      const int64_t h = q * p.stride[1] + s * p.dilation[1] - p.pad[1];
      if (h >= 0 && h < p.H) {
        from[rows] = x + ((n * p.D + d) * p.H + h) * p.W * p.C;
        to[rows++] = sums + (r * p.S + s) * p.T * pitch_;
      }
      if (rows == 0 || (rows < kMaxDepthwiseRows && s + 1 < p.S)) continue;
      for (const Run& run : runs_) {
        work.voxels = run.last - run.first;
        work.dy = dy + (line * p.Q + run.first) * p.C;
        const int64_t at = run.first * p.stride[2] + run.tap * p.dilation[2] - p.pad[2];
        for (int64_t i = 0; i < rows; ++i) {
          work.x[i] = from[i] + at * p.C;
          work.sums[i] = to[i] + run.tap * pitch_;
        }
        kernels_.sum[rows - 1][run.taps - 1](work);
      }
      rows = 0;
    }
  }
}

void DepthwiseWeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  const int64_t C = problem_.C, taps = problem_.taps(), slabFloats = taps * pitch_;
  float* const sums = WorkspaceCursor(workspace).floats(slabs_ * slabFloats);
  parallelFor(slabs_ * blocks_, [&](int64_t task) {
    const int64_t slab = task / blocks_, channel = task % blocks_ * kBlockChannels;
    const int64_t end = std::min(pitch_, channel + kBlockChannels);
    float* const own = sums + slab * slabFloats;
    for (int64_t tap = 0; tap < taps; ++tap)
      std::fill(own + tap * pitch_ + channel, own + tap * pitch_ + end, 0.0f);
    for (int64_t line = lines_ * slab / slabs_; line < lines_ * (slab + 1) / slabs_; ++line)
      sumLine(x, dy, line, channel, end, own);
  });
  parallelFor(divideUp(C, kBlockChannels), [&](int64_t block) {
    for (int64_t c = block * kBlockChannels; c < std::min(C, (block + 1) * kBlockChannels); ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        float sum = 0;
        for (int64_t slab = 0; slab < slabs_; ++slab) sum += sums[slab * slabFloats + tap * pitch_ + c];
        dw[c * taps + tap] = sum;
      }
    }
  });
}

}  // namespace voxgrad::cpu
