#include "conv_steps.h"
#include "segmentation_head.h"

namespace voxgrad::cuda {
namespace {

constexpr size_t source = 1;
// Features, weights and bias.
constexpr size_t headInputs = 3;

bool normalizes(const Step& step) { return step.attributes.has("epsilon"); }

Step withoutNormOf(const Step& step) { return normalizes(step) ? withoutNorm(step, source) : step; }

}  // namespace

void checkHead(const Step& step) {
  const size_t least = source + headInputs + (normalizes(step) ? normInputs : 0);
  if (step.inputs.size() < least) refuse(step, "it takes features, weights and a bias");
  if (normalizes(step)) checkNorm(step, source);
  const Step bare = withoutNormOf(step);
  const Tensor &features = bare.inputs[source], &weights = bare.inputs[source + 1];
  const int64_t channels = features.channels(), classes = step.output.channels();
  if (features.dtype != DType::bf16) expectDType(step, features, DType::f32);
  expectDType(step, weights, features.dtype);
  const int64_t chunk = features.dtype == DType::bf16 ? chunkOf<Bf16> : chunkOf<float>;
  if (channels > mostHeadFeatures || channels % chunk != 0 || classes > mostHeadClasses)
    refuse(step, "a head of " + std::to_string(channels) + " features and " + std::to_string(classes) +
                     " classes is not for it");
  expectCount(step, features, rowsOf(step.output) * channels);
  expectCount(step, weights, classes * channels);
  expectDType(step, bare.inputs[source + 2], DType::f32);
  expectCount(step, bare.inputs[source + 2], classes);
}

SegmentationHead headOf(const Step& step) {
  const Step bare = withoutNormOf(step);
  const Tensor& features = bare.inputs[source];
  if (!aligned(features.data)) refuse(step, "it takes features aligned to 16 bytes");
  return {features.data, bare.inputs[source + 1].data, bare.inputs[source + 2].f32(),
          normalizes(step) ? normOf(step, source) : SourceNorm{}, static_cast<int>(features.channels())};
}

Step withoutHead(const Step& step) {
  Step bare = withoutNormOf(step);
  const auto first = bare.inputs.begin() + static_cast<std::ptrdiff_t>(source);
  bare.inputs.erase(first, first + static_cast<std::ptrdiff_t>(headInputs));
  bare.inputs.insert(bare.inputs.begin() + static_cast<std::ptrdiff_t>(source), step.output);
  return bare;
}

}  // namespace voxgrad::cuda
