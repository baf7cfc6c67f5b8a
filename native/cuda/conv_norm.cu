#include <cmath>

#include "conv_steps.h"

namespace voxgrad::cuda {

Step withoutNorm(const Step& step, size_t source) {
  Step bare = step;
  const auto first = bare.inputs.begin() + static_cast<std::ptrdiff_t>(source) + 1;
  bare.inputs.erase(first, first + normInputs);
  return bare;
}

void checkNorm(const Step& step, size_t source) {
  const Tensor &x = step.inputs[source], &moments = step.inputs[source + 1];
  expectDType(step, moments, DType::f32);
  expectRank(step, moments, 3);
  expectRank(step, x, 5);
  const int64_t groups = moments.shape[1];
  if (moments.shape[0] != 1 || moments.shape[2] != 2 || x.channels() % groups != 0)
    refuse(step, "moments " + format(moments) + " do not fit " + format(x));
  for (const size_t i : {source + 2, source + 3}) {
    expectDType(step, step.inputs[i], DType::f32);
    expectCount(step, step.inputs[i], x.channels());
  }
  if (!(step.attributes.number("epsilon") >= 0)) refuse(step, "epsilon must not be negative");
}

SourceNorm normOf(const Step& step, size_t source) {
  const Tensor &x = step.inputs[source], &moments = step.inputs[source + 1];
  return {moments.f32(), step.inputs[source + 2].f32(), step.inputs[source + 3].f32(),
          static_cast<int>(x.channels() / moments.shape[1]), step.attributes.number("epsilon")};
}

}  // namespace voxgrad::cuda
