// Random numbers in kernels: the words that the CPU's kernels draw.
#pragma once

#include "../core/philox.h"
#include "cuda.h"

namespace voxgrad::cuda {

// The random stream of a step; the key, its second input, lies on the device.
struct StepRandom {
  const int32_t* key;
  uint32_t stream;

  explicit StepRandom(const Step& step)
      : key(step.inputs[1].i32()), stream(static_cast<uint32_t>(step.attributes.integer("stream"))) {}

  __device__ void draw(int64_t block, uint32_t words[4]) const {
    const RandomStream random = {{static_cast<uint32_t>(key[0]), static_cast<uint32_t>(key[1])}, stream};
    random.draw(static_cast<uint64_t>(block), words);
  }
};

}  // namespace voxgrad::cuda
