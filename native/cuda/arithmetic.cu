// Elementwise arithmetic with one operand that may be a scalar, the sum of everything, fills and copies.
#include "cuda.h"
#include "kernels.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

// `stride` is 0 where b is a scalar.
struct Add {
  const float *a, *b;
  int64_t stride;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = a[i] + b[i * stride]; }
};

struct Mul {
  const float *a, *b;
  int64_t stride;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = a[i] * b[i * stride]; }
};

struct Scale {
  const float* x;
  float factor;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = x[i] * factor; }
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

template <class Binary>
void runBinary(const char* name, const Step& step) {
  const int64_t stride = step.inputs[1].rank == 0 ? 0 : 1;
  forEach(name, step.output.count(),
          Binary{step.inputs[0].f32(), step.inputs[1].f32(), stride, step.output.f32()});
}

void runAdd(const Step& step) { runBinary<Add>("add", step); }
void runMul(const Step& step) { runBinary<Mul>("mul", step); }

void runScale(const Step& step) {
  const auto factor = static_cast<float>(step.attributes.number("factor"));
  forEach("scale", step.output.count(), Scale{step.inputs[0].f32(), factor, step.output.f32()});
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
    kernel("add", runAdd),
    kernel("mul", runMul),
    kernel("scale", runScale),
    kernel("fill", runFill),
    kernel("constant", runConstant),
    kernel("copy", runCopy),
    kernel("sum", runSum, sumWorkspace),
};

}  // namespace voxgrad::cuda
