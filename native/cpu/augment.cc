// Random flips and rotations of images and labels, one draw for each sample.
#include <cmath>
#include <cstring>

#include "../core/philox.h"
#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

static constexpr double degree = 3.14159265358979323846 / 180;

// Extents of images [N, D, H, W, C] and labels [N, D, H, W] alike.
struct Volume {
  int64_t extent[4];
  int64_t channels;
};

static Volume volumeOf(const Tensor& x) {
  return {{x.shape[0], x.shape[1], x.shape[2], x.shape[3]}, x.rank == 5 ? x.shape[4] : 1};
}

static void checkAugment(const Step& step) {
  expectInputs(step, 2, 2);
  const Tensor& x = step.inputs[0];
  if (x.dtype != DType::f32 && x.dtype != DType::u8) refuse(step, "images are f32, labels u8");
  expectRank(step, x, x.dtype == DType::f32 ? 5 : 4);
  expectDType(step, step.output, x.dtype);
  expectSameShape(step, x, step.output);
  expectDType(step, step.inputs[1], DType::i32);
  expectCount(step, step.inputs[1], 2);
  const int64_t stream = step.attributes.integer("stream");
  if (stream < 0 || stream > 0xffffffffLL) refuse(step, "the stream must fit 32 bits");
}

static RandomStream streamOf(const Step& step) {
  const int32_t* key = step.inputs[1].i32();
  return {{static_cast<uint32_t>(key[0]), static_cast<uint32_t>(key[1])},
          static_cast<uint32_t>(step.attributes.integer("stream"))};
}

static size_t prepareFlip(const Step& step) {
  checkAugment(step);
  for (double axis : step.attributes.list("axes"))
    if (!(axis == 1 || axis == 2 || axis == 3)) refuse(step, "axes must be 1, 2 or 3");
  return 0;
}

static void runFlip(const Step& step) {
  const Volume v = volumeOf(step.output);
  const auto& axes = step.attributes.list("axes");
  const RandomStream random = streamOf(step);
  const size_t voxel = static_cast<size_t>(v.channels) * bytesOf(step.output.dtype);
  const uint8_t* x = static_cast<const uint8_t*>(step.inputs[0].data);
  uint8_t* y = static_cast<uint8_t*>(step.output.data);
  parallelRange(
      v.extent[0] * v.extent[1] * v.extent[2],
      [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          int64_t h = row % v.extent[2], d = row / v.extent[2] % v.extent[1];
          const int64_t n = row / v.extent[2] / v.extent[1];
          uint32_t words[4];
          random.draw(static_cast<uint64_t>(n), words);
          bool flipped[4] = {};
          for (double axis : axes)
            flipped[static_cast<int>(axis)] = words[static_cast<int>(axis) - 1] >> 31 != 0;
          if (flipped[1]) d = v.extent[1] - 1 - d;
          if (flipped[2]) h = v.extent[2] - 1 - h;
          const uint8_t* from =
              x + static_cast<size_t>(((n * v.extent[1] + d) * v.extent[2] + h) * v.extent[3]) * voxel;
          uint8_t* to = y + static_cast<size_t>(row * v.extent[3]) * voxel;
          if (!flipped[3]) {
            std::memcpy(to, from, static_cast<size_t>(v.extent[3]) * voxel);
          } else {
            for (int64_t w = 0; w < v.extent[3]; w++)
              std::memcpy(to + static_cast<size_t>(w) * voxel,
                          from + static_cast<size_t>(v.extent[3] - 1 - w) * voxel, voxel);
          }
        }
      },
      64);
}

// The largest whole number that is not above x; a cast and a comparison where std::floor may be a call.
static int64_t floorOf(double x) {
  const int64_t truncated = static_cast<int64_t>(x);
  return truncated - (static_cast<double>(truncated) > x);
}

// The turn of one sample: out - middle = R (source - middle), within the plane of the axes a < b.
struct Turn {
  double cosine, sine;
};

static Turn turnOf(const RandomStream& random, int64_t sample, double degrees) {
  uint32_t words[4];
  random.draw(static_cast<uint64_t>(sample), words);
  const double angle = (2 * (words[3] / 4294967296.0) - 1) * degrees * degree;
  return {std::cos(angle), std::sin(angle)};
}

static size_t prepareRotate(const Step& step) {
  checkAugment(step);
  const int64_t plane = step.attributes.integer("plane");
  if (plane < 1 || plane > 3) refuse(step, "the axis to rotate about must be 1, 2 or 3");
  const double fill = step.attributes.number("fill");
  if (!std::isfinite(step.attributes.number("degrees")) || !std::isfinite(fill))
    refuse(step, "degrees and fill must be finite");
  if (step.output.dtype == DType::u8 && !(fill >= 0 && fill <= 255)) refuse(step, "fill must be a byte");
  return 0;
}

// Calls f(output voxel, index of the plane's origin for it, source a, source b) for every voxel.
template <class F>
static void forEachSource(const Step& step, F f) {
  const Volume v = volumeOf(step.output);
  const int plane = static_cast<int>(step.attributes.integer("plane"));
  const int a = plane == 1 ? 2 : 1, b = plane == 3 ? 2 : 3;
  const int64_t strides[4] = {v.extent[1] * v.extent[2] * v.extent[3], v.extent[2] * v.extent[3], v.extent[3],
                              1};
  const double middleA = (static_cast<double>(v.extent[a]) - 1) / 2;
  const double middleB = (static_cast<double>(v.extent[b]) - 1) / 2;
  const double degrees = step.attributes.number("degrees");
  const RandomStream random = streamOf(step);
  parallelRange(
      v.extent[0] * v.extent[1] * v.extent[2],
      [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          int64_t at[4] = {row / v.extent[2] / v.extent[1], row / v.extent[2] % v.extent[1],
                           row % v.extent[2], 0};
          const Turn turn = turnOf(random, at[0], degrees);
          for (; at[3] < v.extent[3]; at[3]++) {
            const double offA = static_cast<double>(at[a]) - middleA,
                         offB = static_cast<double>(at[b]) - middleB;
            f(row * v.extent[3] + at[3], at[0] * strides[0] + at[plane] * strides[plane],
              middleA + turn.cosine * offA + turn.sine * offB,
              middleB - turn.sine * offA + turn.cosine * offB);
          }
        }
      },
      16);
}

static void runRotate(const Step& step) {
  const Volume v = volumeOf(step.output);
  const int plane = static_cast<int>(step.attributes.integer("plane"));
  const int64_t extentA = v.extent[plane == 1 ? 2 : 1], extentB = v.extent[plane == 3 ? 2 : 3];
  const int64_t strideA = plane == 1 ? v.extent[3] : v.extent[2] * v.extent[3];
  const int64_t strideB = plane == 3 ? v.extent[3] : 1;
  if (step.output.dtype == DType::u8) {
    const uint8_t fill = static_cast<uint8_t>(step.attributes.number("fill"));
    const uint8_t* x = step.inputs[0].u8();
    uint8_t* y = step.output.u8();
    forEachSource(step, [=](int64_t voxel, int64_t origin, double sourceA, double sourceB) {
      const int64_t i = floorOf(sourceA + 0.5);
      const int64_t j = floorOf(sourceB + 0.5);
      const bool inside = i >= 0 && i < extentA && j >= 0 && j < extentB;
      y[voxel] = inside ? x[origin + i * strideA + j * strideB] : fill;
    });
    return;
  }
  const float fill = static_cast<float>(step.attributes.number("fill"));
  const int64_t channels = v.channels;
  const float* x = step.inputs[0].f32();
  float* y = step.output.f32();
  forEachSource(step, [=](int64_t voxel, int64_t origin, double sourceA, double sourceB) {
    const int64_t lowA = floorOf(sourceA), lowB = floorOf(sourceB);
    const float shareA = static_cast<float>(sourceA - static_cast<double>(lowA));
    const float shareB = static_cast<float>(sourceB - static_cast<double>(lowB));
    const int64_t at = origin + lowA * strideA + lowB * strideB;
    float weights[4];
    const float* corners[4];
    for (int corner = 0; corner < 4; corner++) {
      const int nextA = corner >> 1, nextB = corner & 1;
      const bool inside =
          lowA + nextA >= 0 && lowA + nextA < extentA && lowB + nextB >= 0 && lowB + nextB < extentB;
      corners[corner] = inside ? x + (at + nextA * strideA + nextB * strideB) * channels : nullptr;
      weights[corner] = (nextA ? shareA : 1 - shareA) * (nextB ? shareB : 1 - shareB);
    }
    for (int64_t c = 0; c < channels; c++) {
      float sum = 0;
      for (int corner = 0; corner < 4; corner++)
        sum += weights[corner] * (corners[corner] != nullptr ? corners[corner][c] : fill);
      y[voxel * channels + c] = sum;
    }
  });
}

const KernelTable augmentKernels = {
    {"randomFlip", prepareFlip, runFlip},
    {"randomRotate", prepareRotate, runRotate},
};

}  // namespace voxgrad::cpu
