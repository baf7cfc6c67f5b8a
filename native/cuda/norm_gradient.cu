// The gradient of a normalisation in two passes, that of a ReLU behind it included: whether the ReLU is open
// is computed again from the input, with the arithmetic of norm.cu.
#include "kernels.h"
#include "norm.h"
#include "pack.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

// gamma and beta are null where no ReLU follows.
template <class T>
struct GradientInputs {
  const T *x, *dy;
  const float *moments, *gamma, *beta;
  double epsilon;
};

// The sums of g and of g (x - mean), g being the gradient behind the ReLU.
template <class T, bool relu>
__global__ void __launch_bounds__(sumThreads)
    gradientSumsKernel(Sets sets, SumLayout layout, GradientInputs<T> in, double* __restrict__ partial) {
  const SumPart part(layout);
  Affine own{};
  if (part.first < part.end) {
    const float* moments = sets.momentsOf(in.moments, part.set, part.column);
    own.mean = moments[0];
    if (relu) own = affineOf(moments, in.gamma[part.column], in.beta[part.column], in.epsilon);
  }
  double sums[2] = {};
  const int64_t at = (part.set * layout.rows + part.begin) * layout.columns + part.column;
  for (int row = part.first; row < part.end; row += part.step) {
    const int64_t i = at + row * layout.columns;
    const float x = in.x[i], dy = in.dy[i];
    const float g = !relu || own.of(x) > 0 ? dy : 0.0f;
    sums[0] += g;
    sums[1] += g * (x - own.mean);
  }
  part.store<2>(layout, sums, partial);
}

struct StoreGradientSums {
  Sets sets;
  const float* moments;
  double epsilon;
  float* y;
  __device__ void operator()(int64_t set, int64_t channel, const double (&totals)[2]) const {
    float* own = y + (set * sets.channels + channel) * 2;
    own[0] = static_cast<float>(totals[0]);
    own[1] = static_cast<float>(totals[1] / sqrt(sets.momentsOf(moments, set, channel)[1] + epsilon));
  }
};

SumShape shapeOf(const Sets& sets) { return {sets.sets, sets.rows, sets.channels}; }

size_t gradientSumsWorkspace(const Step& step) {
  return sumBytes<2>(shapeOf(Sets(step.inputs[0], step.inputs[1])));
}

// Inputs: x, moments, dy, and gamma and beta where a ReLU follows.
void runGradientSums(const Step& step) {
  const Sets sets(step.inputs[0], step.inputs[1]);
  const SumLayout layout(shapeOf(sets));
  const bool relu = step.attributes.flag("relu");
  const float* moments = step.inputs[1].f32();
  const double epsilon = step.attributes.number("epsilon");
  double* partial = static_cast<double*>(step.workspace);
  byStorage(step.inputs[0], [&](auto storage) {
    using T = typename decltype(storage)::type;
    const GradientInputs<T> in{dataOf<T>(step.inputs[0]),
                               dataOf<T>(step.inputs[2]),
                               moments,
                               relu ? step.inputs[3].f32() : nullptr,
                               relu ? step.inputs[4].f32() : nullptr,
                               epsilon};
    launch("normalizeGradientSums", relu ? gradientSumsKernel<T, true> : gradientSumsKernel<T, false>,
           sumGrid<2>(layout), sets, layout, in, partial);
  });
  finishSums<2>(layout.sets, layout.chunks, layout.columns, partial,
                StoreGradientSums{sets, moments, epsilon, step.output.f32()});
}

struct AddSets {
  const float* sums;
  int64_t sets, channels, which;
  float* y;
  __device__ void operator()(int64_t channel) const {
    double total = 0;
    for (int64_t set = 0; set < sets; set++) total += sums[(set * channels + channel) * 2 + which];
    y[channel] = static_cast<float>(total);
  }
};

void runParameterGradient(const Step& step) {
  const Tensor& sums = step.inputs[0];
  forEach(
      "normalizeParameterGradient", sums.shape[1],
      AddSets{sums.f32(), sums.shape[0], sums.shape[1], step.attributes.integer("which"), step.output.f32()});
}

// With g the gradient behind the ReLU: dx = g map.scale + ((x - map.mean) ofInput + constant).
struct Slopes {
  Affine map;
  float ofInput, constant;
};

// With g = gamma dy and xh the normalised input: dx = (g - mean(g) - xh mean(g xh)) / deviation.
struct FindSlopes {
  Sets sets;
  const float *moments, *gamma, *beta, *sums;
  double epsilon;
  Slopes* slopes;
  __device__ void operator()(int64_t i) const {
    const int64_t set = i / sets.channels, channel = i % sets.channels;
    const int64_t first = channel / sets.perGroup * sets.perGroup;
    double gradient = 0, product = 0;
    for (int64_t c = first; c < first + sets.perGroup; c++) {
      const float* of = sums + (set * sets.channels + c) * 2;
      gradient += double(gamma[c]) * of[0];
      product += double(gamma[c]) * of[1];
    }
    const float* own = sets.momentsOf(moments, set, channel);
    const double inverse = 1 / sqrt(own[1] + epsilon), count = static_cast<double>(sets.groupCount);
    slopes[i] = {affineOf(own, gamma[channel], beta == nullptr ? 0 : beta[channel], epsilon),
                 static_cast<float>(-inverse * inverse * product / count),
                 static_cast<float>(-inverse * gradient / count)};
  }
};

// dx may be dy.
template <class T, int each, bool batch, bool relu>
__global__ void __launch_bounds__(NormShape::threads)
    inputGradientKernel(NormShape shape, const Slopes* __restrict__ slopes, const T* x, const T* dy, T* dx) {
  const NormPart part(shape);
  if (part.first >= part.end) return;
  Slopes own[each];
  for (int j = 0; j < each; j++) own[j] = slopes[(part.set * shape.columns + part.column) * each + j];
  for (int row = part.first; row < part.end; row += shape.together) {
    const int64_t i = (part.at + row * shape.columns) * each;
    Pack<float, each> values = loadFloats<each>(dy + i), from;
    if (batch || relu) from = loadFloats<each>(x + i);
    for (int j = 0; j < each; j++) {
      float g = values.v[j];
      if (relu) g = own[j].map.of(from.v[j]) > 0 ? g : 0.0f;
      g *= own[j].map.scale;
      if (batch) g += (from.v[j] - own[j].map.mean) * own[j].ofInput + own[j].constant;
      values.v[j] = g;
    }
    storeFloats(dx + i, values);
  }
}

size_t inputGradientWorkspace(const Step& step) {
  const Sets sets(step.inputs[0], step.inputs[1]);
  return static_cast<size_t>(sets.sets * sets.channels) * sizeof(Slopes);
}

template <class T, int each>
void launchInputGradient(const Step& step, const Sets& sets, const Slopes* slopes) {
  const bool batch = step.attributes.flag("batch"), relu = step.attributes.flag("relu");
  const NormShape shape(sets, each);
  launch(
      "normalizeInputGradient",
      batch ? (relu ? inputGradientKernel<T, each, true, true> : inputGradientKernel<T, each, true, false>)
            : (relu ? inputGradientKernel<T, each, false, true> : inputGradientKernel<T, each, false, false>),
      shape.grid(0), shape, slopes, dataOf<T>(step.inputs[0]), dataOf<T>(step.inputs[4]),
      dataOf<T>(step.output));
}

// Inputs: x, moments, gamma, sums, dy, and beta where a ReLU follows.
void runInputGradient(const Step& step) {
  const Sets sets(step.inputs[0], step.inputs[1]);
  Slopes* slopes = static_cast<Slopes*>(step.workspace);
  const float* beta = step.attributes.flag("relu") ? step.inputs[5].f32() : nullptr;
  forEach("normalizeSlopes", sets.sets * sets.channels,
          FindSlopes{sets, step.inputs[1].f32(), step.inputs[2].f32(), beta, step.inputs[3].f32(),
                     step.attributes.number("epsilon"), slopes});
  byStorage(step.output, [&](auto storage) {
    using T = typename decltype(storage)::type;
    if (packWidth<T>(sets.channels, {&step.inputs[0], &step.inputs[4], &step.output}) == chunkOf<T>)
      launchInputGradient<T, chunkOf<T>>(step, sets, slopes);
    else
      launchInputGradient<T, 1>(step, sets, slopes);
  });
}

}  // namespace

const KernelTable normGradientKernels = {
    narrowable(kernel("normalizeGradientSums", runGradientSums, gradientSumsWorkspace), 1 | 1 << 2),
    kernel("normalizeParameterGradient", runParameterGradient),
    narrowable(kernel("normalizeInputGradient", runInputGradient, inputGradientWorkspace),
               1 | 1 << 4 | outputBit),
};

}  // namespace voxgrad::cuda
