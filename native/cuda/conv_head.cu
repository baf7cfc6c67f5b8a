#include <algorithm>

#include "conv_head.h"
#include "conv_slabs.h"
#include "index.h"
#include "pack.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

// More channels are worth a matrix product.
constexpr int mostFilters = 16;

// A chunk of the channels of a voxel.
template <class T, class Out>
struct HeadInputGradient {
  const T *source, *weights;  // [voxels, depth], [columns, depth]
  const float* bias;          // may be null
  Out* output;
  int depth;
  Divisor chunks;  // of a voxel

  __device__ void operator()(int64_t i) const {
    constexpr int chunk = chunkOf<Out>;
    int64_t voxel = i;
    const int64_t column = chunks.split(&voxel) * chunk;
    Pack<float, chunk> sum;
    UNROLL for (int k = 0; k < chunk; k++) sum.v[k] = bias == nullptr ? 0.0f : bias[column + k];
    for (int filter = 0; filter < depth; filter++) {
      const float slope = source[voxel * depth + filter];
      UNROLL for (int k = 0; k < chunk; k++) sum.v[k] +=
          slope * float{weights[(column + k) * depth + filter]};
    }
    storeFloats(output + i * chunk, sum);
  }
};

template <class T, class Out>
void runHeadOf(const GatherCall& call) {
  const Gather& gather = call.gather;
  const int64_t chunks = gather.columns / chunkOf<Out>;
  forEach(
      headName, gather.outputVoxels() * chunks,
      HeadInputGradient<T, Out>{static_cast<const T*>(call.source), static_cast<const T*>(call.weights),
                                call.bias, static_cast<Out*>(call.output), gather.depth, Divisor(chunks)});
}

bool isPointwise(const Gather& gather) {
  bool pointwise = gather.taps() == 1 && gather.groups == 1;
  for (const GatherAxis& axis : gather.axis) pointwise = pointwise && axis.stride == 1 && axis.pad == 0;
  return pointwise;
}

// What a thread adds up: products of one chunk of channels with all filters, over the voxels of its slab
// that are `together` apart.
struct HeadGradientCall {
  const void *x, *dy;
  int64_t voxels, slab;
  int filters, channels;
  int chunks, together;
  float* partial;  // [slabs, filters, channels]
};

template <class T, int FILTERS>
__global__ void __launch_bounds__(sumThreads) headWeightGradientKernel(HeadGradientCall call) {
  constexpr int chunk = chunkOf<T>;
  const int row = static_cast<int>(threadIdx.x) / call.chunks;
  const int column = (static_cast<int>(threadIdx.x) - row * call.chunks) * chunk;
  const int64_t begin = int64_t{blockIdx.x} * call.slab;
  const int64_t end = begin + call.slab < call.voxels ? begin + call.slab : call.voxels;
  float total[FILTERS][chunk] = {};
  for (int64_t voxel = row < call.together ? begin + row : end; voxel < end; voxel += call.together) {
    const auto x = loadFloats<chunk>(static_cast<const T*>(call.x) + voxel * call.channels + column);
    const T* dy = static_cast<const T*>(call.dy) + voxel * call.filters;
    UNROLL for (int filter = 0; filter < FILTERS; filter++) {
      const float slope = filter < call.filters ? float{dy[filter]} : 0.0f;
      UNROLL for (int k = 0; k < chunk; k++) total[filter][k] += slope * x.v[k];
    }
  }
  float* partial = call.partial + int64_t{blockIdx.x} * call.filters * call.channels;
  UNROLL for (int filter = 0; filter < FILTERS; filter++) {
    if (filter >= call.filters) return;
    double sums[chunk];
    UNROLL for (int k = 0; k < chunk; k++) sums[k] = total[filter][k];
    __syncthreads();
    addRowsOfBlock<chunk>(call.together, call.chunks, sums);
    if (row == 0)
      for (int k = 0; k < chunk; k++)
        partial[filter * call.channels + column + k] = static_cast<float>(sums[k]);
  }
}

HeadGradientCall callOf(const Conv3dProblem& p, Precision precision) {
  HeadGradientCall call{};
  call.voxels = p.N * p.Z * p.P * p.Q;
  call.filters = static_cast<int>(p.K);
  call.channels = static_cast<int>(p.C);
  call.chunks = call.channels / chunkOfPrecision(precision);
  call.together = sumThreads / call.chunks;
  // By the problem alone, so that sums have the same order everywhere; few enough voxels for float32.
  const int64_t least = int64_t{call.together} * 8, most = int64_t{call.together} * 512;
  call.slab = std::min(std::max(divideUp(call.voxels, mostBlocks / 4), least), most);
  return call;
}

int64_t slabsOf(const HeadGradientCall& call) { return divideUp(call.voxels, call.slab); }

template <class T, int FILTERS>
void launchGradient(const char* name, const HeadGradientCall& call) {
  launch(name, headWeightGradientKernel<T, FILTERS>,
         Grid{static_cast<unsigned>(slabsOf(call)), sumThreads,
              static_cast<size_t>(chunkOf<T> * sumThreads) * sizeof(double)},
         call);
}

template <class T>
void launchGradientOf(const char* name, const HeadGradientCall& call) {
  if (call.filters <= 4) return launchGradient<T, 4>(name, call);
  if (call.filters <= 8) return launchGradient<T, 8>(name, call);
  launchGradient<T, mostFilters>(name, call);
}

}  // namespace

bool suitsHead(const Gather& gather, Precision precision) {
  const int chunk = chunkOfPrecision(precision);
  return gather.transposed && isPointwise(gather) && gather.depth < mostFilters &&
         gather.depth % chunk != 0 && gather.columns % chunk == 0;
}

void runHead(const GatherCall& call) {
  if (call.precision != Precision::bf16)
    runHeadOf<float, float>(call);
  else if (call.narrow)
    runHeadOf<Bf16, Bf16>(call);
  else
    runHeadOf<Bf16, float>(call);
}

bool suitsHeadWeightGradient(const Conv3dProblem& problem, Precision precision) {
  const int chunk = chunkOfPrecision(precision);
  return isPointwise(gatherOf(problem, false)) && problem.K < mostFilters && problem.K % chunk != 0 &&
         problem.C % chunk == 0 && problem.C / chunk <= sumThreads &&
         slabsOf(callOf(problem, precision)) < int64_t{1} << 31;
}

const char* headWeightGradientName(const Conv3dProblem& problem) {
  return problem.K <= 4   ? "head over voxels, 4 filters"
         : problem.K <= 8 ? "head over voxels, 8 filters"
                          : "head over voxels, 16 filters";
}

size_t headWeightGradientWorkspace(const Conv3dProblem& problem, Precision precision) {
  const int64_t slabs = slabsOf(callOf(problem, precision));
  return slabs == 1 ? 0 : static_cast<size_t>(slabs * problem.K * problem.C) * sizeof(float);
}

void runHeadWeightGradient(const GradientOperands& operands) {
  HeadGradientCall call = callOf(operands.problem, operands.precision);
  const int64_t slabs = slabsOf(call);
  call.x = operands.x;
  call.dy = operands.dy;
  call.partial = slabs == 1 ? operands.dw : static_cast<float*>(operands.workspace);
  const char* name = headWeightGradientName(operands.problem);
  if (operands.precision == Precision::bf16)
    launchGradientOf<Bf16>(name, call);
  else
    launchGradientOf<float>(name, call);
  if (slabs > 1) addSlabs(call.partial, slabs, operands.problem.K * operands.problem.C, operands.dw);
}

}  // namespace voxgrad::cuda
