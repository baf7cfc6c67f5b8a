// Dropout of elements or whole channels, and Gaussian noise, from counter-based random numbers.
#include <cmath>

#include "../core/philox.h"
#include "clones.h"
#include "elementwise.h"
#include "kernels.h"
#include "lanes.h"
#include "math.h"

namespace voxgrad::cpu {

// Random blocks drawn together: enough to fill vector registers.
static constexpr int drawBlocks = 64;
static constexpr int drawWords = 4 * drawBlocks;

struct Draw {
  RandomStream random;
  int64_t block;
  uint32_t words[drawWords];
};

// The rounds of philox4x32 for consecutive counters side by side.
VOXGRAD_CLONES static void drawAll(Draw* draw) {
  uint32_t c0[drawBlocks], c1[drawBlocks], c2[drawBlocks], c3[drawBlocks];
  for (int i = 0; i < drawBlocks; i++) {
    const uint64_t block = static_cast<uint64_t>(draw->block) + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(block);
    c1[i] = static_cast<uint32_t>(block >> 32);
    c2[i] = draw->random.stream;
    c3[i] = 0;
  }
  uint32_t k0 = draw->random.key[0], k1 = draw->random.key[1];
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < drawBlocks; i++) {
      const uint64_t product0 = uint64_t{0xd2511f53u} * c0[i];
      const uint64_t product1 = uint64_t{0xcd9e8d57u} * c2[i];
      c0[i] = static_cast<uint32_t>(product1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(product1);
      c2[i] = static_cast<uint32_t>(product0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(product0);
    }
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  for (int i = 0; i < drawBlocks; i++) {
    draw->words[4 * i] = c0[i];
    draw->words[4 * i + 1] = c1[i];
    draw->words[4 * i + 2] = c2[i];
    draw->words[4 * i + 3] = c3[i];
  }
}

VOXGRAD_CLONES static void dropElements(const float* x, const uint32_t* words, float* y, int count,
                                        uint32_t threshold, float scale) {
  VOXGRAD_INDEPENDENT
  for (int i = 0; i < count; i++) y[i] = words[i] < threshold ? 0.0f : x[i] * scale;
}

VOXGRAD_CLONES static void scaleChannels(const float* x, const float* factors, float* y, int64_t count,
                                         int64_t width) {
  for (int64_t i = 0; i < count; i += width) {
    const int64_t n = count - i < width ? count - i : width;
    VOXGRAD_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
      const float value = x[i + j] * factors[j];
      y[i + j] = factors[j] == 0.0f ? 0.0f : value;
    }
  }
}

// Normal numbers of one Draw, in the order of the elements.
VOXGRAD_CLONES static void normals(const uint32_t* words, float* out) {
  constexpr float unit = 1.0f / 16777216;
  float radius[drawWords / 2], turn[drawWords / 2];
  for (int i = 0; i < drawWords / 2; i++) {
    // A signed conversion, which all instruction sets have; 24 bits fit.
    radius[i] = static_cast<float>(static_cast<int32_t>(words[2 * i] >> 8) + 1) * unit;
    turn[i] = static_cast<float>(static_cast<int32_t>(words[2 * i + 1] >> 8)) * unit;
  }
  for (int i = 0; i < drawWords / 2; i++) radius[i] = -2.0f * logOf(radius[i]);
  for (int i = 0; i < drawWords / 2; i++) radius[i] = radius[i] > 0 ? __builtin_sqrtf(radius[i]) : 0.0f;
  for (int i = 0; i < drawWords / 2; i++) {
    float cosine, sine;
    cosSinOfTurn(turn[i], &cosine, &sine);
    out[2 * i] = radius[i] * cosine;
    out[2 * i + 1] = radius[i] * sine;
  }
}

VOXGRAD_CLONES static void addScaled(const float* x, const float* noise, float* y, int count, float stddev) {
  VOXGRAD_INDEPENDENT
  for (int i = 0; i < count; i++) y[i] = x[i] + stddev * noise[i];
}

static RandomStream streamOf(const Step& step) {
  const int32_t* key = step.inputs[1].i32();
  return {{static_cast<uint32_t>(key[0]), static_cast<uint32_t>(key[1])},
          static_cast<uint32_t>(step.attributes.integer("stream"))};
}

// Calls f(begin, count, words) for consecutive pieces of [0, count) with the random words of their elements.
template <class F>
static void forEachDraw(int64_t count, const RandomStream& random, F f) {
  parallelRange(count, [&](int64_t begin, int64_t end) {
    Draw draw;
    draw.random = random;
    for (int64_t at = begin; at < end; at += drawWords) {
      draw.block = at / 4;
      drawAll(&draw);
      f(at, static_cast<int>(std::min<int64_t>(drawWords, end - at)), draw.words);
    }
  });
}

static void checkRandom(const Step& step) {
  expectInputs(step, 2, 2);
  expectDType(step, step.inputs[0], DType::f32);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  expectDType(step, step.inputs[1], DType::i32);
  expectCount(step, step.inputs[1], 2);
  const int64_t stream = step.attributes.integer("stream");
  if (stream < 0 || stream > 0xffffffffLL) refuse(step, "the stream must fit 32 bits");
}

static size_t prepareDropout(const Step& step) {
  checkRandom(step);
  const double rate = step.attributes.number("rate");
  if (!(rate >= 0 && rate < 1)) refuse(step, "the rate must be at least 0 and below 1");
  if (!step.attributes.flag("channels")) return 0;
  if (step.output.rank < 2) refuse(step, "whole channels need at least 2 axes");
  return static_cast<size_t>(step.output.shape[0] * Lanes(step.output.channels()).width) * sizeof(float);
}

static void runDropout(const Step& step) {
  const double rate = step.attributes.number("rate");
  const uint32_t threshold =
      static_cast<uint32_t>(std::min(4294967295.0, std::floor(rate * 4294967296.0 + 0.5)));
  const float scale = static_cast<float>(1 / (1 - rate));
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  const RandomStream random = streamOf(step);
  if (!step.attributes.flag("channels")) {
    forEachDraw(step.output.count(), random, [=](int64_t begin, int count, const uint32_t* words) {
      dropElements(x + begin, words, y + begin, count, threshold, scale);
    });
    return;
  }
  const int64_t samples = step.output.shape[0];
  const Lanes lanes(step.output.channels());
  float* factors = static_cast<float*>(step.workspace);
  forEachDraw(samples * lanes.channels, random, [=](int64_t begin, int count, const uint32_t* words) {
    for (int i = 0; i < count; i++) {
      const int64_t n = (begin + i) / lanes.channels;
      for (int64_t j = (begin + i) % lanes.channels; j < lanes.width; j += lanes.channels)
        factors[n * lanes.width + j] = words[i] < threshold ? 0.0f : scale;
    }
  });
  forEachChunk(lanes, samples, step.output.count() / samples,
               [=](int64_t n, int64_t begin, int64_t count, int64_t) {
                 scaleChannels(x + begin, factors + n * lanes.width, y + begin, count, lanes.width);
               });
}

static size_t prepareNoise(const Step& step) {
  checkRandom(step);
  step.attributes.number("stddev");
  return 0;
}

static void runNoise(const Step& step) {
  const float stddev = static_cast<float>(step.attributes.number("stddev"));
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  forEachDraw(step.output.count(), streamOf(step), [=](int64_t begin, int count, const uint32_t* words) {
    float noise[drawWords];
    normals(words, noise);
    addScaled(x + begin, noise, y + begin, count, stddev);
  });
}

const KernelTable dropoutKernels = {
    {"dropout", prepareDropout, runDropout},
    {"gaussianNoise", prepareNoise, runNoise},
};

}  // namespace voxgrad::cpu
