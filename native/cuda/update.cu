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

template <int V>
struct Both {
  Sgd sgd;
  bool nesterov;
  const float *p, *g, *rate;
  float *v, *y;
  __device__ void operator()(int64_t i) const {
    Pack<float, V> parameter = loadPack<V>(p + i * V), velocity = loadPack<V>(v + i * V);
    const Pack<float, V> gradient = loadPack<V>(g + i * V);
    for (int k = 0; k < V; k++) {
      velocity.v[k] = sgd.velocity(velocity.v[k], gradient.v[k], parameter.v[k]);
      parameter.v[k] = nesterov ? sgd.descendNesterov(parameter.v[k], velocity.v[k], gradient.v[k], *rate)
                                : sgd.descend(parameter.v[k], velocity.v[k], *rate);
    }
    storePack(v + i * V, velocity);
    storePack(y + i * V, parameter);
  }
};

void runSgd(const Step& step) {
  const Tensor &p = step.inputs[0], &v = step.inputs[1], &g = step.inputs[2], &y = step.output;
  forEachPack<Both>("sgd", packWidth(y.count(), {&p, &v, &g, &y}), y.count(), sgdOf(step),
                    step.attributes.flag("nesterov"), p.f32(), g.f32(), step.inputs[3].f32(), v.f32(),
                    y.f32());
}

// `decay` may be null; then it is `known`.
template <int V>
struct Ema {
  const float *a, *x, *decay;
  double known;
  float* y;
  __device__ void operator()(int64_t i) const {
    const double kept = decay != nullptr ? *decay : known;
    Pack<float, V> average = loadPack<V>(a + i * V);
    const Pack<float, V> value = loadPack<V>(x + i * V);
    for (int k = 0; k < V; k++)
      average.v[k] = static_cast<float>(kept) * average.v[k] + static_cast<float>(1 - kept) * value.v[k];
    storePack(y + i * V, average);
  }
};

void runEma(const Step& step) {
  const Tensor &a = step.inputs[0], &x = step.inputs[1], &y = step.output;
  const bool fed = step.inputs.size() > 2;
  forEachPack<Ema>("ema", packWidth(y.count(), {&a, &x, &y}), y.count(), a.f32(), x.f32(),
                   fed ? step.inputs[2].f32() : nullptr, fed ? 0 : step.attributes.number("decay"), y.f32());
}

}  // namespace

const KernelTable updateKernels = {
    kernel("sgdVelocity", runVelocity),
    kernel("sgdStep", runStep),
    updatingKernel("sgd", runSgd, 1),
    kernel("ema", runEma),
};

}  // namespace voxgrad::cuda
