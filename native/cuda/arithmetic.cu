// Elementwise arithmetic with one operand that may be a scalar, the sum of everything, fills and copies.
#include "elementwise.h"
#include "kernels.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

struct Sum {
  static __device__ float of(float a, float b) { return a + b; }
};

struct Product {
  static __device__ float of(float a, float b) { return a * b; }
};

template <class Of>
struct WithElement {
  __device__ float operator()(float a, float b) const { return Of::of(a, b); }
};

template <class Of>
struct WithScalar {
  const float* b;
  __device__ float operator()(float a, float) const { return Of::of(a, *b); }
};

struct Scale {
  float factor;
  __device__ float operator()(float x, float) const { return x * factor; }
};

struct Fill {
  const float* value;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = *value; }
};

struct Constant {
  float value;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = value; }
};

template <class Of>
void runBinary(const char* name, const Step& step) {
  const Tensor &a = step.inputs[0], &b = step.inputs[1];
  if (b.rank == 0)
    elementwise(name, a, a, step.output, WithScalar<Of>{b.f32()});
  else
    elementwise(name, a, b, step.output, WithElement<Of>{});
}

void runAdd(const Step& step) { runBinary<Sum>("add", step); }
void runMul(const Step& step) { runBinary<Product>("mul", step); }

void runScale(const Step& step) {
  const auto factor = static_cast<float>(step.attributes.number("factor"));
  elementwise("scale", step.inputs[0], step.inputs[0], step.output, Scale{factor});
}

void runFill(const Step& step) {
  forEach("fill", step.output.count(), Fill{step.inputs[0].f32(), step.output.f32()});
}

void runConstant(const Step& step) {
  const auto value = static_cast<float>(step.attributes.number("value"));
  forEach("constant", step.output.count(), Constant{value, step.output.f32()});
}

void runCopy(const Step& step) {
  check(cudaMemcpyAsync(step.output.data, step.inputs[0].data, step.output.bytes(), cudaMemcpyDeviceToDevice,
                        stream()),
        "copy");
}

struct AddElement {
  const float* x;
  __device__ void operator()(int64_t, int64_t row, int64_t, double (&sums)[1]) const { sums[0] += x[row]; }
};

struct StoreSum {
  float* y;
  __device__ void operator()(int64_t, int64_t, const double (&totals)[1]) const {
    *y = static_cast<float>(totals[0]);
  }
};

SumShape sumShape(const Step& step) { return {1, step.inputs[0].count(), 1}; }

size_t sumWorkspace(const Step& step) { return sumBytes<1>(sumShape(step)); }

void runSum(const Step& step) {
  columnSums<1>("sum", sumShape(step), step.workspace, AddElement{step.inputs[0].f32()},
                StoreSum{step.output.f32()});
}

}  // namespace

const KernelTable arithmeticKernels = {
    narrowable(kernel("add", runAdd), 3 | outputBit),
    narrowable(kernel("mul", runMul), 3 | outputBit),
    narrowable(kernel("scale", runScale), 1 | outputBit),
    kernel("fill", runFill),
    kernel("constant", runConstant),
    kernel("copy", runCopy),
    kernel("sum", runSum, sumWorkspace),
};

}  // namespace voxgrad::cuda
