#include <algorithm>

#include "conv_cudnn.h"
#include "conv_cudnn_passes.h"
#include "cudnn_plan.h"

namespace voxgrad::cuda {
namespace {

using cudnn::Pass;
using cudnn::Plan;
using cudnn::Problem;

// The problem of a gather, by what cuDNN calls it: a convolution, or with a stride an input gradient. One
// without is a convolution of dy with the packed weights, taps in reverse order.
Problem problemOf(const Gather& gather, Precision precision, const Extras& extras) {
  const GatherAxis(&axis)[3] = gather.axis;
  const bool flat = axis[0].source == 1 && axis[0].output == 1 && axis[0].taps == 1;
  const bool strided = gather.transposed &&
                       std::any_of(axis, axis + 3, [](const GatherAxis& each) { return each.stride != 1; });
  Problem p{};
  p.pass = strided ? Pass::inputGradient : Pass::forward;
  p.precision = precision;
  p.normalizes = extras.normalizes;
  p.bias = extras.bias;
  p.sums = extras.sums;
  p.wide = extras.wide;
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

Problem weightGradientOf(const Conv3dProblem& problem, Precision precision, bool normalizes) {
  Problem p = problemOf(gatherOf(problem, false), precision, {false, true, normalizes, false});
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

// How a convolution is computed: with its bias in cuDNN's kernel, or else without, unless what is stored is
// summed there.
struct Choice {
  Problem problem;
  const Plan* plan;

  Choice(const Gather& gather, Precision precision, const Extras& extras)
      : problem(problemOf(gather, precision, extras)), plan(planOf(problem)) {
    if (plan != nullptr || !extras.bias || extras.sums) return;
    problem.bias = false;
    plan = planOf(problem);
  }
};

// Where things lie in the workspace, in front of what cuDNN itself needs there: weights of a strided input
// gradient, the affine maps of the source, and sums.
struct Places {
  size_t weights = 0, scale, shift, sums, squares, end;

  explicit Places(const Problem& p) {
    const auto perChannel = [](bool wanted, const int64_t* extents) {
      return wanted ? roundUp(sizeof(float) * static_cast<size_t>(extents[1])) : 0;
    };
    scale = p.pass == Pass::inputGradient ? roundUp(weightBytes(p)) : 0;
    shift = scale + perChannel(p.normalizes, p.source());
    sums = shift + perChannel(p.normalizes, p.source());
    squares = sums + perChannel(p.sums, p.result());
    end = squares + perChannel(p.sums, p.result());
  }

 private:
  static size_t roundUp(size_t bytes) { return (bytes + 255) / 256 * 256; }
  static size_t weightBytes(const Problem& p) {
    size_t bytes = p.precision == Precision::bf16 ? sizeof(Bf16) : sizeof(float);
    for (int i = 0; i < p.axes + 2; i++) bytes *= static_cast<size_t>(p.w[i]);
    return bytes;
  }
};

// Has cuDNN put its kernels on stream(). Emulated, they run there as ours do; cuDNN has errors of its own.
void enqueue(const char* name, const Plan* plan, const cudnn::Operands& operands, void* workspace) {
  countLaunch(name);
#ifdef __CUDACC__
  plan->run(operands, workspace);
#else
  if (emulation::enqueue(stream(), "cuDNN", [=] { plan->run(operands, workspace); }) != cudaSuccess)
    throw Error("ERR_DEVICE", "cuDNN, convolution: the stream takes no more work");
#endif
}

// The map of a source that is normalised, in its place.
void setMap(const SourceNorm& norm, const Problem& problem, const Places& places, char* room,
            cudnn::Operands& operands) {
  auto *scale = reinterpret_cast<float*>(room + places.scale),
       *shift = reinterpret_cast<float*>(room + places.shift);
  foldNorm(norm, problem.source()[1], scale, shift);
  operands.scale = scale;
  operands.shift = shift;
}

}  // namespace

const char* cudnnName(Precision precision, bool sums) {
  static const auto* names = new std::string[2 * precisions]{cudnn::describe() + ", f32",
                                                             cudnn::describe() + ", tf32",
                                                             cudnn::describe() + ", bf16",
                                                             cudnn::describe() + " with sums, f32",
                                                             cudnn::describe() + " with sums, tf32",
                                                             cudnn::describe() + " with sums, bf16"};
  return names[(sums ? precisions : 0) + static_cast<int>(precision)].c_str();
}

bool cudnnTakes(const Gather& gather, Precision precision, const Extras& extras, size_t* workspace) {
  const Choice choice(gather, precision, extras);
  if (choice.plan == nullptr) return false;
  *workspace = Places(choice.problem).end + choice.plan->workspace();
  return true;
}

bool runCudnn(const GatherCall& call, bool sums, void* workspace) {
  if (!aligned(call.source) || !aligned(call.weights) || !aligned(call.output)) return false;
  const bool wide = call.precision == Precision::bf16 && !call.narrow;
  const Choice choice(call.gather, call.precision, {call.bias != nullptr, wide, bool(call.norm), sums});
  const Problem& problem = choice.problem;
  if (choice.plan == nullptr) throw Error("ERR_DEVICE", "cuDNN refuses what it accepted before");
  const Places places(problem);
  auto* const room = static_cast<char*>(workspace);

  const bool strided = problem.pass == Pass::inputGradient;
  cudnn::Operands operands{strided ? call.output : call.source, call.weights,
                           strided ? call.source : call.output};
  if (strided) {
    unpackWeights(call, room + places.weights);
    operands.w = room + places.weights;
  }
  if (call.norm) setMap(call.norm, problem, places, room, operands);
  if (problem.bias) operands.bias = call.bias;
  if (sums) {
    operands.sums = reinterpret_cast<float*>(room + places.sums);
    operands.squares = reinterpret_cast<float*>(room + places.squares);
  }
  enqueue(cudnnName(call.precision, sums), choice.plan, operands, room + places.end);
  if (call.bias != nullptr && !problem.bias) addBias(call);
  if (sums) finishMoments(call, operands.sums, operands.squares);
  return true;
}

bool cudnnTakesWeightGradient(const Conv3dProblem& problem, Precision precision, bool normalizes,
                              size_t* workspace) {
  const Problem p = weightGradientOf(problem, precision, normalizes);
  const Plan* const plan = planOf(p);
  if (plan != nullptr) *workspace = Places(p).end + plan->workspace();
  return plan != nullptr;
}

void runCudnnWeightGradient(const GradientOperands& given, const SourceNorm& norm) {
  const Problem problem = weightGradientOf(given.problem, given.precision, bool(norm));
  const Plan* const plan = planOf(problem);
  if (plan == nullptr) throw Error("ERR_DEVICE", "cuDNN refuses what it accepted before");
  const Places places(problem);
  auto* const room = static_cast<char*>(given.workspace);
  cudnn::Operands operands{given.x, given.dw, given.dy};
  if (norm) setMap(norm, problem, places, room, operands);
  enqueue(cudnnName(given.precision), plan, operands, room + places.end);
}

}  // namespace voxgrad::cuda
