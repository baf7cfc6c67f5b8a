// The optimizer's updates and the moving average of a teacher; each may overwrite its first input.
#include "cuda.h"
#include "kernels.h"
#include "pack.h"

namespace voxgrad::cuda {
namespace {

// One formula for the separate and the joined kernels, so that they give the same bits.
struct Sgd {
  float momentum, decay;
  __device__ float velocity(float v, float g, float p) const { return momentum * v + (g + decay * p); }
  __device__ float descend(float p, float v, float rate) const { return p - rate * v; }
  __device__ float descendNesterov(float p, float v, float g, float rate) const {
    return p - rate * velocity(v, g, p);
  }
};

Sgd sgdOf(const Step& step) {
  return {static_cast<float>(step.attributes.number("momentum")),
          static_cast<float>(step.attributes.number("weightDecay"))};
}

struct Velocity {
  Sgd sgd;
  const float *v, *g, *p;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = sgd.velocity(v[i], g[i], p[i]); }
};

void runVelocity(const Step& step) {
  forEach("sgdVelocity", step.output.count(),
          Velocity{sgdOf(step), step.inputs[0].f32(), step.inputs[1].f32(), step.inputs[2].f32(),
                   step.output.f32()});
}

struct Descend {
  Sgd sgd;
  const float *p, *v, *rate;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = sgd.descend(p[i], v[i], *rate); }
};

struct DescendNesterov {
  Sgd sgd;
  const float *p, *v, *rate, *g;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = sgd.descendNesterov(p[i], v[i], g[i], *rate); }
};

void runStep(const Step& step) {
  const Sgd sgd = sgdOf(step);
  const float *p = step.inputs[0].f32(), *v = step.inputs[1].f32(), *rate = step.inputs[2].f32();
  float* y = step.output.f32();
  if (step.attributes.flag("nesterov"))
    forEach("sgdStep", step.output.count(), DescendNesterov{sgd, p, v, rate, step.inputs[3].f32(), y});
  else
    forEach("sgdStep", step.output.count(), Descend{sgd, p, v, rate, y});
}

// Many parameters at once: as many as their addresses fit into the arguments of a kernel.
constexpr int parametersAtOnce = 64;

struct Parameters {
  int count = 0;
  const float *p[parametersAtOnce], *g[parametersAtOnce];
  float *v[parametersAtOnce], *y[parametersAtOnce];
  // Where each one ends among the packs of all.
  int64_t end[parametersAtOnce];
};

template <int V>
struct Both {
  Sgd sgd;
  bool nesterov;
  const float* rate;
  Parameters of;
  __device__ void operator()(int64_t i) const {
    int low = 0, high = of.count - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (i < of.end[middle])
        high = middle;
      else
        low = middle + 1;
    }
    const int64_t at = (i - (low > 0 ? of.end[low - 1] : 0)) * V;
    Pack<float, V> parameter = loadPack<V>(of.p[low] + at), velocity = loadPack<V>(of.v[low] + at);
    const Pack<float, V> gradient = loadPack<V>(of.g[low] + at);
    for (int k = 0; k < V; k++) {
      velocity.v[k] = sgd.velocity(velocity.v[k], gradient.v[k], parameter.v[k]);
      parameter.v[k] = nesterov ? sgd.descendNesterov(parameter.v[k], velocity.v[k], gradient.v[k], *rate)
                                : sgd.descend(parameter.v[k], velocity.v[k], *rate);
    }
    storePack(of.v[low] + at, velocity);
    storePack(of.y[low] + at, parameter);
  }
};

template <int V>
void launchSgd(const Step& step, const Parameters& parameters) {
  if (parameters.count == 0) return;
  const float* rate = step.inputs.back().f32();
  forEach("sgd", parameters.end[parameters.count - 1],
          Both<V>{sgdOf(step), step.attributes.flag("nesterov"), rate, parameters});
}

template <int V>
void addParameter(const Step& step, const Tensor (&tensors)[4], Parameters* to) {
  const auto& [p, v, g, y] = tensors;
  const int64_t before = to->count > 0 ? to->end[to->count - 1] : 0;
  to->p[to->count] = p.f32();
  to->v[to->count] = v.f32();
  to->g[to->count] = g.f32();
  to->y[to->count] = y.f32();
  to->end[to->count++] = before + p.count() / V;
  if (to->count < parametersAtOnce) return;
  launchSgd<V>(step, *to);
  to->count = 0;
}

size_t updatedBySgd(const Step& step) { return step.inputs.size() / 3 * 2; }

// Inputs are p and v of each parameter, the gradients, and the rate; the first parameter goes to the output.
void runSgd(const Step& step) {
  const size_t count = step.inputs.size() / 3;
  Parameters packs, singles;
  for (size_t i = 0; i < count; i++) {
    const Tensor &p = step.inputs[2 * i], &v = step.inputs[2 * i + 1], &g = step.inputs[2 * count + i];
    const Tensor& y = i == 0 ? step.output : p;
    if (packWidth<float>(p.count(), {&p, &v, &g, &y}) == 4)
      addParameter<4>(step, {p, v, g, y}, &packs);
    else
      addParameter<1>(step, {p, v, g, y}, &singles);
  }
  launchSgd<4>(step, packs);
  launchSgd<1>(step, singles);
}

// `decay` may be null; then it is `known`.
template <class T, int V>
struct Ema {
  const T *a, *x;
  const float* decay;
  double known;
  T* y;
  __device__ void operator()(int64_t i) const {
    const double kept = decay != nullptr ? *decay : known;
    Pack<float, V> average = loadFloats<V>(a + i * V);
    const Pack<float, V> value = loadFloats<V>(x + i * V);
    for (int k = 0; k < V; k++)
      average.v[k] = static_cast<float>(kept) * average.v[k] + static_cast<float>(1 - kept) * value.v[k];
    storeFloats(y + i * V, average);
  }
};

void runEma(const Step& step) {
  const Tensor &a = step.inputs[0], &x = step.inputs[1], &y = step.output;
  const bool fed = step.inputs.size() > 2;
  forEachPack<Ema, float>("ema", packWidth<float>(y.count(), {&a, &x, &y}), y.count(), a.f32(), x.f32(),
                          fed ? step.inputs[2].f32() : nullptr, fed ? 0 : step.attributes.number("decay"),
                          y.f32());
}

}  // namespace

const KernelTable updateKernels = {
    kernel("sgdVelocity", runVelocity),
    kernel("sgdStep", runStep),
    updatingKernel("sgd", runSgd, updatedBySgd),
    kernel("ema", runEma),
};

}  // namespace voxgrad::cuda
