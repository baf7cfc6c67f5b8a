// The logits of a segmentation by way of the 1x1x1 convolution, with a bias, that they are the result of: in
// float32 for every precision, as the gradients of conv_head.h.
#pragma once

#include "conv_norm.h"
#include "rows.h"

namespace voxgrad::cuda {

// What join_head.ts knows as well: a thread has all classes of a voxel, and shared memory all weights.
constexpr int mostHeadClasses = 15, mostHeadFeatures = 64;

struct SegmentationHead {
  const void *features = nullptr, *weights = nullptr;  // [voxels, channels], [classes, channels]
  const float* bias = nullptr;
  SourceNorm norm = {};  // of the features
  int channels = 0;
};

// A thread's row of logits, from features of T; it is also stored where `logits` says.
template <class R, class T>
struct HeadLogits {
  static constexpr int chunk = chunkOf<T>;
  // In shared memory: for every channel, then for the bias, a row of the classes that R has; then the maps of
  // the channels where they are normalised.
  static constexpr int wide = R::each == 2 ? 2 : 4, row = (R::each + wide - 1) / wide * wide;
  // Chunks of a voxel that are on their way together, as registers allow.
  static constexpr int together = R::each > 8 ? 1 : (R::each > 4 ? 8 : 16) / chunk;

  const T* features;
  int channels;
  const float* weights;
  const Affine* maps;  // may be null
  float* logits = nullptr;

  static int64_t sharedFloats(const SegmentationHead& head) {
    const int64_t maps = head.norm ? head.channels * int64_t{sizeof(Affine) / sizeof(float)} : 0;
    return divideUp((head.channels + 1) * row + maps, 4) * 4;
  }

  // Fills `shared`, aligned to 16 bytes, by all threads of the block.
  __device__ HeadLogits(const SegmentationHead& head, int classes, float* shared)
      : features(static_cast<const T*>(head.features)),
        channels(head.channels),
        weights(shared),
        maps(head.norm ? reinterpret_cast<const Affine*>(shared + (channels + 1) * row) : nullptr) {
    for (int i = static_cast<int>(threadIdx.x); i < (channels + 1) * row; i += static_cast<int>(blockDim.x)) {
      const int channel = i / row, of = i % row;
      float weight = 0;
      if (of < classes && channel < channels)
        weight = static_cast<const T*>(head.weights)[of * channels + channel];
      else if (of < classes)
        weight = head.bias[of];
      shared[i] = weight;
    }
    if (head.norm) head.norm.spread(0, channels, const_cast<Affine*>(maps));
    __syncthreads();
  }

  __device__ static void addTimes(float factor, const float* weights, float (&sums)[row]) {
    UNROLL for (int i = 0; i < row; i += wide) {
      const auto weight = loadPack<wide>(weights + i);
      UNROLL for (int k = 0; k < wide; k++) sums[i + k] += factor * weight.v[k];
    }
  }

  __device__ void operator()(const R& own, int64_t voxel, typename R::Values& values) const {
    const T* from = features + voxel * channels;
    float sums[row] = {};
    addTimes(1, weights + channels * row, sums);
    for (int first = 0; first < channels; first += together * chunk) {
      Pack<T, chunk> packs[together];
      UNROLL for (int i = 0; i < together; i++) {
        if (first + i * chunk < channels) packs[i] = loadPack<chunk>(from + first + i * chunk);
      }
      UNROLL for (int i = 0; i < together; i++) {
        const int channel = first + i * chunk;
        if (channel >= channels) break;
        if (maps != nullptr) normalizeChunk(packs[i].v, maps + channel);
        UNROLL for (int k = 0; k < chunk; k++) addTimes(packs[i].v[k], weights + (channel + k) * row, sums);
      }
    }
    for (int i = 0; i < R::each; i++) values[i] = own.has(i) ? sums[i] : -INFINITY;
    own.store(values, voxel, logits);
  }
};

// Of steps with the sums, the features, perhaps what normalises them, weights and bias as their first inputs,
// before those of the losses: which throws Error("ERR_PLAN") unless they fit, how they are decoded, and the
// step as it is of logits, which lie where their gradient is to be.
void checkHead(const Step& step);
SegmentationHead headOf(const Step& step);
Step withoutHead(const Step& step);

}  // namespace voxgrad::cuda
