#include "cast.h"
#include "kernels.h"
#include "pack.h"

namespace voxgrad::cuda {
namespace {

// Elements [V i, V i + V), or those of them that there are.
template <class From, class To, int V>
struct Cast {
  const From* from;
  To* to;
  int64_t count;

  __device__ void operator()(int64_t i) const {
    const int64_t at = i * V;
    if (at + V > count) {
      for (int64_t k = at; k < count; k++) to[k] = static_cast<float>(from[k]);
      return;
    }
    const Pack<From, V> values = loadPack<V>(from + at);
    Pack<To, V> results;
    for (int k = 0; k < V; k++) results.v[k] = static_cast<float>(values.v[k]);
    storePack(to + at, results);
  }
};

template <class From, class To>
void cast(const From* from, To* to, int64_t count) {
  constexpr int vector = 4;
  if (allMultiples({addressOf(from), addressOf(to)}, 16))
    forEach("cast", divideUp(count, vector), Cast<From, To, vector>{from, to, count});
  else
    forEach("cast", count, Cast<From, To, 1>{from, to, count});
}

void runCast(const Step& step) {
  const Tensor &x = step.inputs[0], &y = step.output;
  if (y.dtype == DType::bf16)
    castElements(x.f32(), dataOf<Bf16>(y), y.count());
  else
    castElements(dataOf<Bf16>(x), y.f32(), y.count());
}

}  // namespace

void castElements(const float* from, Bf16* to, int64_t count) { cast(from, to, count); }
void castElements(const Bf16* from, float* to, int64_t count) { cast(from, to, count); }

const KernelTable castKernels = {kernel("cast", runCast)};

}  // namespace voxgrad::cuda
