// Dropout of elements or whole channels, and Gaussian noise, from counter-based random numbers.
#include <algorithm>
#include <cmath>

#include "index.h"
#include "kernels.h"
#include "pack.h"
#include "random.h"

namespace voxgrad::cuda {
namespace {

struct Dropped {
  uint32_t threshold;
  float scale;

  explicit Dropped(const Step& step) {
    const double rate = step.attributes.number("rate");
    threshold = static_cast<uint32_t>(std::min(4294967295.0, std::floor(rate * 4294967296.0 + 0.5)));
    scale = static_cast<float>(1 / (1 - rate));
  }
};

// y[i] = f(x[i], word i of the stream), of which a thread takes the four of one draw; `F::prepare` may make
// other numbers of the words first.
template <class T, class F>
struct ForEachDraw {
  const T* x;
  StepRandom random;
  int64_t count;
  bool aligned;
  F f;
  T* y;

  __device__ void operator()(int64_t block) const {
    uint32_t words[4];
    random.draw(block, words);
    Pack<float, 4> changes;
    f.prepare(words, changes.v);
    const int64_t begin = block * 4;
    if (aligned && begin + 4 <= count) {
      Pack<float, 4> values = loadFloats<4>(x + begin);
      for (int k = 0; k < 4; k++) values.v[k] = f.apply(values.v[k], changes.v[k]);
      storeFloats(y + begin, values);
    } else {
      for (int k = 0; k < 4 && begin + k < count; k++) y[begin + k] = f.apply(x[begin + k], changes.v[k]);
    }
  }
};

template <class F>
void forEachDraw(const char* name, const Step& step, F f) {
  const Tensor &x = step.inputs[0], &y = step.output;
  const bool aligned = allMultiples({addressOf(x.data), addressOf(y.data)}, 16);
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    forEach(name, divideUp(y.count(), 4),
            ForEachDraw<T, F>{dataOf<T>(x), StepRandom(step), y.count(), aligned, f, dataOf<T>(y)});
  });
}

struct DropElements {
  Dropped dropped;
  __device__ void prepare(const uint32_t words[4], float factors[4]) const {
    for (int k = 0; k < 4; k++) factors[k] = words[k] < dropped.threshold ? 0.0f : dropped.scale;
  }
  __device__ float apply(float x, float factor) const { return factor == 0 ? 0.0f : x * factor; }
};

struct AddNormals {
  float stddev;
  // Box and Muller's transform of two pairs.
  __device__ void prepare(const uint32_t words[4], float normals[4]) const {
    constexpr float unit = 1.0f / 16777216;
    for (int k = 0; k < 4; k += 2) {
      const float radius = sqrtf(-2.0f * logf(static_cast<float>((words[k] >> 8) + 1) * unit));
      float sine, cosine;
      sincospif(static_cast<float>(words[k + 1] >> 8) * (2 * unit), &sine, &cosine);
      normals[k] = radius * cosine;
      normals[k + 1] = radius * sine;
    }
  }
  __device__ float apply(float x, float normal) const { return x + stddev * normal; }
};

// The factor of every channel of every sample.
struct ChannelFactors {
  Dropped dropped;
  StepRandom random;
  int64_t count;
  float* factors;
  __device__ void operator()(int64_t block) const {
    uint32_t words[4];
    random.draw(block, words);
    for (int k = 0; k < 4 && block * 4 + k < count; k++)
      factors[block * 4 + k] = words[k] < dropped.threshold ? 0.0f : dropped.scale;
  }
};

template <class T>
struct DropChannels {
  const T* x;
  const float* factors;
  Divisor sampleCount, channels;
  int64_t width;
  T* y;
  __device__ void operator()(int64_t i) const {
    const float factor = factors[sampleCount.quotient(i) * width + channels.remainder(i)];
    y[i] = factor == 0 ? 0.0f : float{x[i]} * factor;
  }
};

int64_t factorCount(const Step& step) { return step.output.shape[0] * step.output.channels(); }

size_t dropoutWorkspace(const Step& step) {
  return step.attributes.flag("channels") ? static_cast<size_t>(factorCount(step)) * sizeof(float) : 0;
}

void runDropout(const Step& step) {
  const Dropped dropped(step);
  if (!step.attributes.flag("channels")) return forEachDraw("dropout", step, DropElements{dropped});
  const Tensor& y = step.output;
  const int64_t count = factorCount(step);
  float* factors = static_cast<float*>(step.workspace);
  forEach("dropoutFactors", divideUp(count, 4), ChannelFactors{dropped, StepRandom(step), count, factors});
  byStorage(y, [&](auto storage) {
    using T = typename decltype(storage)::type;
    forEach("dropout", y.count(),
            DropChannels<T>{dataOf<T>(step.inputs[0]), factors, Divisor(y.count() / y.shape[0]),
                            Divisor(y.channels()), y.channels(), dataOf<T>(y)});
  });
}

void runNoise(const Step& step) {
  forEachDraw("gaussianNoise", step, AddNormals{static_cast<float>(step.attributes.number("stddev"))});
}

}  // namespace

const KernelTable dropoutKernels = {
    narrowable(kernel("dropout", runDropout, dropoutWorkspace), 1 | outputBit),
    kernel("gaussianNoise", runNoise),
};

}  // namespace voxgrad::cuda
