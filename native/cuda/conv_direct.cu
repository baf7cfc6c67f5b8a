#include "conv_direct.h"
#include "sums.h"

namespace voxgrad::cuda {
namespace {

// One number of the output.
template <class T>
struct DirectConv {
  GatherCall call;

  __device__ void operator()(int64_t i) const {
    const Gather& gather = call.gather;
    const int channels = gather.groups * gather.columns;
    const int channel = static_cast<int>(i % channels), group = channel / gather.columns;
    const int extents[3] = {gather.axis[0].output, gather.axis[1].output, gather.axis[2].output};
    const Digits at = Digits::of(i / channels, extents);
    Lattice lattice[3];
    int start[3];
    for (int k = 0; k < 3; k++) {
      const GatherAxis& axis = gather.axis[k];
      const int step = gather.transposed ? axis.stride : 1;
      lattice[k] = axis.lattice(gather.transposed, at.digit[k] % step);
      start[k] = lattice[k].sourceFirst + at.digit[k] / step * lattice[k].sourceStep;
    }
    const T* weights = static_cast<const T*>(call.weights) + channel * gather.taps() * gather.depth;
    float sum = call.bias == nullptr ? 0.0f : call.bias[channel];
    for (int r = 0; r < lattice[0].taps; r++) {
      const int z = start[0] + r * lattice[0].shift;
      if (z < 0 || z >= gather.axis[0].source) continue;
      for (int s = 0; s < lattice[1].taps; s++) {
        const int p = start[1] + s * lattice[1].shift;
        if (p < 0 || p >= gather.axis[1].source) continue;
        const int64_t line = ((at.lead * gather.axis[0].source + z) * gather.axis[1].source + p);
        const int64_t taps = (int64_t{lattice[0].tapFirst + r * lattice[0].tapStep} * gather.axis[1].taps +
                              lattice[1].tapFirst + s * lattice[1].tapStep) *
                             gather.axis[2].taps;
        for (int t = 0; t < lattice[2].taps; t++) {
          const int q = start[2] + t * lattice[2].shift;
          if (q < 0 || q >= gather.axis[2].source) continue;
          const T* x = static_cast<const T*>(call.source) +
                       ((line * gather.axis[2].source + q) * gather.groups + group) * gather.depth;
          const T* w = weights + (taps + lattice[2].tapFirst + t * lattice[2].tapStep) * gather.depth;
          for (int c = 0; c < gather.depth; c++) sum += float{x[c]} * float{w[c]};
        }
      }
    }
    if (call.narrow)
      static_cast<Bf16*>(call.output)[i] = sum;
    else
      static_cast<float*>(call.output)[i] = sum;
  }
};

// The places of the sums of a weight gradient: a row is a voxel of dy, a column a filter and one of its input
// channels, a set a tap.
template <class T>
struct AddProduct {
  Conv3dProblem problem;
  const T *x, *dy;

  __device__ void operator()(int64_t set, int64_t row, int64_t column, double (&sums)[1]) const {
    const Conv3dProblem& p = problem;
    const int extents[3] = {static_cast<int>(p.Z), static_cast<int>(p.P), static_cast<int>(p.Q)};
    const int kernel[3] = {static_cast<int>(p.R), static_cast<int>(p.S), static_cast<int>(p.T)};
    const int64_t sizes[3] = {p.D, p.H, p.W};
    const Digits at = Digits::of(row, extents), tap = Digits::of(set, kernel);
    int64_t voxel = at.lead;
    for (int i = 0; i < 3; i++) {
      const int64_t position = at.digit[i] * p.stride[i] + tap.digit[i] * p.dilation[i] - p.pad[i];
      if (position < 0 || position >= sizes[i]) return;
      voxel = voxel * sizes[i] + position;
    }
    const int64_t depth = p.C / p.groups, filter = column / depth;
    const int64_t group = filter / (p.K / p.groups);
    sums[0] += double{x[voxel * p.C + group * depth + column % depth]} * double{dy[row * p.K + filter]};
  }
};

struct StoreWeight {
  int64_t taps, depth;
  float* dw;
  __device__ void operator()(int64_t set, int64_t column, const double (&totals)[1]) const {
    dw[(column / depth * taps + set) * depth + column % depth] = static_cast<float>(totals[0]);
  }
};

SumShape sumsOf(const Conv3dProblem& p) { return {p.taps(), p.N * p.Z * p.P * p.Q, p.K * (p.C / p.groups)}; }

}  // namespace

void runDirect(const GatherCall& call) {
  int64_t count = call.gather.batch * call.gather.groups * call.gather.columns;
  for (const GatherAxis& axis : call.gather.axis) count *= axis.output;
  if (call.precision == Precision::bf16)
    forEach(directName, count, DirectConv<Bf16>{call});
  else
    forEach(directName, count, DirectConv<float>{call});
}

size_t directWeightGradientWorkspace(const Conv3dProblem& problem) { return sumBytes<1>(sumsOf(problem)); }

template <class T>
static void runWeightGradientOf(const GradientOperands& operands) {
  const Conv3dProblem& problem = operands.problem;
  columnSums<1>(directName, sumsOf(problem), operands.workspace,
                AddProduct<T>{problem, static_cast<const T*>(operands.x), static_cast<const T*>(operands.dy)},
                StoreWeight{problem.taps(), problem.C / problem.groups, operands.dw});
}

void runDirectWeightGradient(const GradientOperands& operands) {
  if (operands.precision == Precision::bf16)
    runWeightGradientOf<Bf16>(operands);
  else
    runWeightGradientOf<float>(operands);
}

}  // namespace voxgrad::cuda
