// The optimizer's updates of single tensors, and the moving average of a teacher; each may overwrite its
// first input.
#include "cuda.h"
#include "kernels.h"
#include "pack.h"
#include "sgd.h"

namespace voxgrad::cuda {
namespace {

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

template <class T, int V>
struct Ema {
  const T *a, *x;
  EmaDecay decay;
  T* y;
  __device__ void operator()(int64_t i) const {
    Pack<float, V> average = loadFloats<V>(a + i * V);
    const Pack<float, V> value = loadFloats<V>(x + i * V);
    for (int k = 0; k < V; k++) average.v[k] = decay.next(average.v[k], value.v[k]);
    storeFloats(y + i * V, average);
  }
};

void runEma(const Step& step) {
  const Tensor &a = step.inputs[0], &x = step.inputs[1], &y = step.output;
  const bool fed = step.inputs.size() > 2;
  const EmaDecay decay{fed ? step.inputs[2].f32() : nullptr, fed ? 0 : step.attributes.number("decay")};
  forEachPack<Ema, float>("ema", packWidth<float>(y.count(), {&a, &x, &y}), y.count(), a.f32(), x.f32(),
                          decay, y.f32());
}

}  // namespace

const KernelTable updateKernels = {
    kernel("sgdVelocity", runVelocity),
    kernel("sgdStep", runStep),
    kernel("ema", runEma),
};

}  // namespace voxgrad::cuda
