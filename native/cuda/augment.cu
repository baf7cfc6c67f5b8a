// Random flips and rotations of images and labels, and intensities of images, one draw for each sample.
#include "cuda.h"
#include "index.h"
#include "kernels.h"
#include "random.h"

namespace voxgrad::cuda {
namespace {

constexpr double degree = 3.14159265358979323846 / 180;

// Images [N, D, H, W, C] and labels [N, D, H, W] alike, as images.
Tensor imageOf(const Tensor& x) {
  Tensor image = x;
  if (x.rank == 4) image.shape[image.rank++] = 1;
  return image;
}

// For each sample, the axes along which it is flipped: bit `axis` of its flags.
struct MakeFlips {
  StepRandom random;
  uint32_t axes;
  uint32_t* flips;
  __device__ void operator()(int64_t sample) const {
    uint32_t words[4];
    random.draw(sample, words);
    uint32_t flipped = 0;
    for (int axis = 1; axis <= 3; axis++) flipped |= (words[axis - 1] >> 31) << axis;
    flips[sample] = flipped & axes;
  }
};

template <class T>
struct Flip {
  Places places;
  int64_t d, h, w, channels;
  const uint32_t* flips;
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const {
    Place at = places.at(i);
    const uint32_t flipped = flips[at.n];
    if (flipped & 2) at.d = d - 1 - at.d;
    if (flipped & 4) at.h = h - 1 - at.h;
    if (flipped & 8) at.w = w - 1 - at.w;
    y[i] = x[(((at.n * d + at.d) * h + at.h) * w + at.w) * channels + at.c];
  }
};

template <class T>
void flipAs(const Step& step, const Tensor& image, const uint32_t* flips) {
  const int64_t* shape = image.shape;
  forEach("randomFlip", image.count(),
          Flip<T>{Places(image, 1), shape[1], shape[2], shape[3], shape[4], flips,
                  static_cast<const T*>(step.inputs[0].data), static_cast<T*>(image.data)});
}

size_t flipWorkspace(const Step& step) {
  return static_cast<size_t>(step.output.shape[0]) * sizeof(uint32_t);
}

void runFlip(const Step& step) {
  uint32_t axes = 0;
  for (double axis : step.attributes.list("axes")) axes |= 1u << static_cast<int>(axis);
  const Tensor image = imageOf(step.output);
  uint32_t* flips = static_cast<uint32_t*>(step.workspace);
  forEach("randomFlips", image.shape[0], MakeFlips{StepRandom(step), axes, flips});
  (image.dtype == DType::u8 ? flipAs<uint8_t> : flipAs<float>)(step, image, flips);
}

// The turn of one sample: out - middle = R (source - middle), within the plane of the axes a < b.
struct Turn {
  double cosine, sine;
};

struct MakeTurns {
  StepRandom random;
  double degrees;
  Turn* turns;
  __device__ void operator()(int64_t sample) const {
    uint32_t words[4];
    random.draw(sample, words);
    const double angle = (2 * (words[3] / 4294967296.0) - 1) * degrees * degree;
    turns[sample] = {cos(angle), sin(angle)};
  }
};

struct Extent {
  int64_t size, stride;
  __device__ bool holds(int64_t i) const { return i >= 0 && i < size; }
  __device__ double middle() const { return (static_cast<double>(size) - 1) / 2; }
};

// Where a voxel of the result comes from.
struct Rotation {
  Places places;
  int plane;
  Extent samples, axis, a, b;  // `axis` is turned about; strides count voxels
  const Turn* turns;

  Rotation(const Step& step, const Tensor& voxels)
      : places(voxels, 1),
        plane(static_cast<int>(step.attributes.integer("plane"))),
        turns(static_cast<const Turn*>(step.workspace)) {
    const int64_t* shape = voxels.shape;
    const Extent extents[] = {{shape[0], shape[1] * shape[2] * shape[3]},
                              {shape[1], shape[2] * shape[3]},
                              {shape[2], shape[3]},
                              {shape[3], 1}};
    samples = extents[0];
    axis = extents[plane];
    a = extents[plane == 1 ? 2 : 1];
    b = extents[plane == 3 ? 2 : 3];
  }

  struct Source {
    int64_t origin;  // of the plane
    double a, b;
  };
  __device__ Source sourceOf(int64_t voxel) const {
    const Place at = places.at(voxel);
    const int64_t along = plane == 1 ? at.d : plane == 2 ? at.h : at.w;
    const double offA = static_cast<double>(plane == 1 ? at.h : at.d) - a.middle();
    const double offB = static_cast<double>(plane == 3 ? at.h : at.w) - b.middle();
    const Turn turn = turns[at.n];
    return {at.n * samples.stride + along * axis.stride, a.middle() + turn.cosine * offA + turn.sine * offB,
            b.middle() - turn.sine * offA + turn.cosine * offB};
  }
};

__device__ __forceinline__ int64_t floorOf(double x) {
  const auto truncated = static_cast<int64_t>(x);
  return truncated - (static_cast<double>(truncated) > x);
}

struct RotateLabels {
  Rotation rotation;
  uint8_t fill;
  const uint8_t* x;
  uint8_t* y;
  __device__ void operator()(int64_t voxel) const {
    const Rotation::Source source = rotation.sourceOf(voxel);
    const Extent &a = rotation.a, &b = rotation.b;
    const int64_t i = floorOf(source.a + 0.5), j = floorOf(source.b + 0.5);
    y[voxel] = a.holds(i) && b.holds(j) ? x[source.origin + i * a.stride + j * b.stride] : fill;
  }
};

struct RotateImage {
  Rotation rotation;
  float fill;
  int64_t channels;
  const float* x;
  float* y;
  __device__ void operator()(int64_t voxel) const {
    const Rotation::Source source = rotation.sourceOf(voxel);
    const Extent &a = rotation.a, &b = rotation.b;
    const int64_t lowA = floorOf(source.a), lowB = floorOf(source.b);
    const auto shareA = static_cast<float>(source.a - static_cast<double>(lowA));
    const auto shareB = static_cast<float>(source.b - static_cast<double>(lowB));
    const float* corner = x + (source.origin + lowA * a.stride + lowB * b.stride) * channels;
    const int64_t nextA = a.stride * channels, nextB = b.stride * channels;
    const bool inA = a.holds(lowA), inNextA = a.holds(lowA + 1);
    const bool inB = b.holds(lowB), inNextB = b.holds(lowB + 1);
    for (int64_t c = 0; c < channels; c++, corner++) {
      float sum = (1 - shareA) * (1 - shareB) * (inA && inB ? *corner : fill);
      sum += (1 - shareA) * shareB * (inA && inNextB ? corner[nextB] : fill);
      sum += shareA * (1 - shareB) * (inNextA && inB ? corner[nextA] : fill);
      sum += shareA * shareB * (inNextA && inNextB ? corner[nextA + nextB] : fill);
      y[voxel * channels + c] = sum;
    }
  }
};

size_t rotateWorkspace(const Step& step) { return static_cast<size_t>(step.output.shape[0]) * sizeof(Turn); }

void runRotate(const Step& step) {
  Tensor voxels = imageOf(step.output);
  const int64_t channels = voxels.channels();
  voxels.shape[4] = 1;
  const double fill = step.attributes.number("fill");
  forEach("randomTurns", voxels.shape[0],
          MakeTurns{StepRandom(step), step.attributes.number("degrees"), static_cast<Turn*>(step.workspace)});
  const Rotation rotation(step, voxels);
  if (voxels.dtype == DType::u8)
    forEach("randomRotate", voxels.count(),
            RotateLabels{rotation, static_cast<uint8_t>(fill), step.inputs[0].u8(), voxels.u8()});
  else
    forEach("randomRotate", voxels.count(),
            RotateImage{rotation, static_cast<float>(fill), channels, step.inputs[0].f32(), voxels.f32()});
}

// Contrast and brightness of one sample: y = x * scale + shift.
struct Intensity {
  float scale, shift;
};

struct MakeIntensities {
  StepRandom random;
  double contrast, brightness;
  Intensity* intensities;
  __device__ void operator()(int64_t sample) const {
    uint32_t words[4];
    random.draw(sample, words);
    intensities[sample] = {static_cast<float>(1 + contrast * (2 * (words[0] / 4294967296.0) - 1)),
                           static_cast<float>(brightness * (2 * (words[1] / 4294967296.0) - 1))};
  }
};

struct ApplyIntensities {
  Places places;
  const Intensity* intensities;
  const float* x;
  float* y;
  __device__ void operator()(int64_t i) const {
    const Intensity intensity = intensities[places.at(i).n];
    y[i] = x[i] * intensity.scale + intensity.shift;
  }
};

size_t intensityWorkspace(const Step& step) {
  return static_cast<size_t>(step.output.shape[0]) * sizeof(Intensity);
}

void runIntensity(const Step& step) {
  auto* intensities = static_cast<Intensity*>(step.workspace);
  forEach("randomIntensities", step.output.shape[0],
          MakeIntensities{StepRandom(step), step.attributes.number("contrast"),
                          step.attributes.number("brightness"), intensities});
  forEach("randomIntensity", step.output.count(),
          ApplyIntensities{Places(step.output, 1), intensities, step.inputs[0].f32(), step.output.f32()});
}

}  // namespace

const KernelTable augmentKernels = {
    kernel("randomFlip", runFlip, flipWorkspace),
    kernel("randomRotate", runRotate, rotateWorkspace),
    kernel("randomIntensity", runIntensity, intensityWorkspace),
};

}  // namespace voxgrad::cuda
