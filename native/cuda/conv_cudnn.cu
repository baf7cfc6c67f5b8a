#include <algorithm>

#include "conv_cudnn.h"
#include "conv_tile.h"
#include "cudnn_graph.h"

namespace voxgrad::cuda {
namespace {

using cudnn::Pass;
using cudnn::Plan;
using cudnn::Problem;

// The problem of a gather, by what cuDNN calls it: a convolution, or with a stride an input gradient. One
// without is a convolution of dy with the packed weights, taps in reverse order.
Problem problemOf(const Gather& gather, Precision precision, bool bias, bool wide = false) {
  const GatherAxis(&axis)[3] = gather.axis;
  const bool flat = axis[0].source == 1 && axis[0].output == 1 && axis[0].taps == 1;
  const bool strided = gather.transposed &&
                       std::any_of(axis, axis + 3, [](const GatherAxis& each) { return each.stride != 1; });
  Problem p{};
  p.pass = strided ? Pass::inputGradient : Pass::forward;
  p.precision = precision;
  p.bias = bias;
  p.wide = wide;
  p.flipped = gather.transposed && !strided;
  p.axes = flat ? 2 : 3;
  p.x[0] = p.y[0] = gather.batch;
  int64_t(&source)[5] = strided ? p.y : p.x;
  int64_t(&output)[5] = strided ? p.x : p.y;
  source[1] = int64_t{gather.groups} * gather.depth;
  output[1] = int64_t{gather.groups} * gather.columns;
  p.w[0] = p.y[1];
  p.w[1] = strided ? gather.columns : gather.depth;
  for (int i = 0; i < p.axes; i++) {
    const GatherAxis& from = axis[i + 3 - p.axes];
    source[i + 2] = from.source;
    output[i + 2] = from.output;
    p.w[i + 2] = from.taps;
    p.pad[i] = p.flipped ? int64_t{from.dilation} * (from.taps - 1) - from.pad : from.pad;
    p.stride[i] = from.stride;
    p.dilation[i] = from.dilation;
  }
  return p;
}

Problem weightGradientOf(const Conv3dProblem& problem, Precision precision) {
  Problem p = problemOf(gatherOf(problem, false), precision, false, true);
  p.pass = Pass::weightGradient;
  return p;
}

// Whether the output has the usual extents, and cuDNN a way.
const Plan* planOf(const Problem& p) {
  if (cudnn::library() == nullptr) return nullptr;
  for (int i = 0; i < p.axes; i++) {
    const int64_t room = p.x[i + 2] + 2 * p.pad[i] - p.dilation[i] * (p.w[i + 2] - 1) - 1;
    if (p.pad[i] < 0 || room < 0 || room / p.stride[i] + 1 != p.y[i + 2]) return nullptr;
  }
  return Plan::of(p);
}

size_t roundUp(size_t bytes) { return divideUp(bytes, size_t{256}) * 256; }

// Weights for a strided input gradient, as cuDNN reads them: [filters, taps, channels of a group].
size_t unpackedBytes(const Gather& gather, const Problem& p) {
  if (p.pass != Pass::inputGradient) return 0;
  const size_t element = p.precision == Precision::bf16 ? sizeof(Bf16) : sizeof(float);
  return roundUp(element * p.w[0] * p.w[1] * gather.taps());
}

template <class T>
struct Unpack {
  const T* packed;  // [groups, columns, taps, depth]
  int64_t taps;
  int depth, columns;
  T* w;
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % columns, tap = i / columns % taps, filter = i / columns / taps;
    w[i] = packed[((filter / depth * columns + column) * taps + tap) * depth + filter % depth];
  }
};

template <class T>
void unpack(const GatherCall& call, void* w) {
  const Gather& gather = call.gather;
  forEach("unpackWeights", gather.taps() * gather.groups * gather.depth * gather.columns,
          Unpack<T>{static_cast<const T*>(call.weights), gather.taps(), gather.depth, gather.columns,
                    static_cast<T*>(w)});
}

template <class T>
struct AddBias {
  const float* bias;
  int channels;
  T* output;
  __device__ void operator()(int64_t i) const { output[i] = T(float(output[i]) + bias[i % channels]); }
};

template <class T>
void addBias(const GatherCall& call) {
  const int channels = call.gather.groups * call.gather.columns;
  forEach("addBias", call.gather.outputVoxels() * channels,
          AddBias<T>{call.bias, channels, static_cast<T*>(call.output)});
}

// Has cuDNN put its kernels on stream(). Emulated, they run there as ours do.
template <class Call>
void enqueue(const char* name, Call call) {
  countLaunch(name);
#ifdef __CUDACC__
  call();
#else
  check(emulation::enqueue(stream(), call), name);
#endif
}

}  // namespace

const char* cudnnName(Precision precision) {
  static const auto* names = new ByPrecision<std::string>{
      {cudnn::describe() + ", f32", cudnn::describe() + ", tf32", cudnn::describe() + ", bf16"}};
  return (*names)[precision].c_str();
}

bool cudnnTakes(const Gather& gather, Precision precision, size_t* workspace) {
  const Problem problem = problemOf(gather, precision, false);
  if (planOf(problem) == nullptr) return false;
  size_t most = 0;
  for (const bool bias : {false, true})
    for (const bool wide : {false, precision == Precision::bf16})
      if (const Plan* plan = planOf(problemOf(gather, precision, bias, wide)))
        most = std::max(most, plan->workspace());
  *workspace = unpackedBytes(gather, problem) + most;
  return true;
}

bool runCudnn(const GatherCall& call, void* workspace) {
  if (!aligned(call.source) || !aligned(call.weights) || !aligned(call.output)) return false;
  const bool bf16 = call.precision == Precision::bf16, wide = bf16 && !call.narrow;
  const Plan* const fused =
      call.bias != nullptr ? planOf(problemOf(call.gather, call.precision, true, wide)) : nullptr;
  const Problem problem = problemOf(call.gather, call.precision, false, wide);
  const Plan* const plan = fused != nullptr ? fused : planOf(problem);
  if (plan == nullptr) return false;
  const void* weights = call.weights;
  if (const size_t bytes = unpackedBytes(call.gather, problem); bytes > 0) {
    bf16 ? unpack<Bf16>(call, workspace) : unpack<float>(call, workspace);
    weights = workspace;
    workspace = static_cast<char*>(workspace) + bytes;
  }
  const bool strided = problem.pass == Pass::inputGradient;
  const void *x = strided ? call.output : call.source, *y = strided ? call.source : call.output;
  const float* const bias = fused != nullptr ? call.bias : nullptr;
  enqueue(cudnnName(call.precision), [=] { plan->run(x, weights, y, bias, workspace); });
  if (call.bias != nullptr && fused == nullptr) bf16 && !wide ? addBias<Bf16>(call) : addBias<float>(call);
  return true;
}

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, size_t* workspace) {
  const Plan* const plan = planOf(weightGradientOf(problem, precision));
  if (plan != nullptr) *workspace = plan->workspace();
  return plan != nullptr;
}

void runCudnnWeightGradient(const GradientOperands& operands) {
  const Plan* const plan = planOf(weightGradientOf(operands.problem, operands.precision));
  if (plan == nullptr) throw Error("ERR_DEVICE", "cuDNN refuses what it accepted before");
  enqueue(cudnnName(operands.precision),
          [operands, plan] { plan->run(operands.x, operands.dw, operands.dy, nullptr, operands.workspace); });
}

}  // namespace voxgrad::cuda
