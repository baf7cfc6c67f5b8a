// The Dice loss in two steps, sums over voxels and a scalar of them, and their gradients.
#include "../core/loss_terms.h"
#include "cuda.h"
#include "kernels.h"
#include "rows.h"
#include "voxels.h"

namespace voxgrad::cuda {
namespace {

// For each class the sums of p g, of p or p^2, and of g.
struct AddOverlap {
  const float* p;
  Voxels voxels;
  int64_t rows, classes;
  bool squared;
  __device__ void operator()(int64_t sample, int64_t row, int64_t c, double (&sums)[3]) const {
    const int64_t voxel = sample * rows + row;
    const float value = p[voxel * classes + c];
    const int32_t label = voxels.classOf(voxel);
    const float weight = label < 0 ? 0.0f : 1.0f, hit = label == c ? 1.0f : 0.0f;
    sums[0] += value * hit;
    sums[1] += (squared ? value * value : value) * weight;
    sums[2] += hit;
  }
};

struct StoreOverlap {
  int64_t classes;
  float* y;
  __device__ void operator()(int64_t sample, int64_t c, const double (&totals)[3]) const {
    for (int k = 0; k < 3; k++) y[(sample * classes + c) * 3 + k] = static_cast<float>(totals[k]);
  }
};

// From the gradients of the sums, three to a class.
struct OverlapGradient {
  const float* p;
  Voxels voxels;
  const float* slopes;
  bool squared;
  float* dp;
  template <class R>
  __device__ void operator()(const R& own, int64_t row) const {
    typename R::Values values;
    own.load(p, row, 0, values);
    const int32_t label = voxels.classOf(row);
    const float weight = label < 0 ? 0.0f : 1.0f;
    const float* of = slopes + own.sample * own.channels * 3;
    for (int i = 0; i < R::each; i++) {
      const int c = own.channel(i);
      if (!own.has(i)) continue;
      const float mass = of[3 * c + 1], slope = squared ? 2.0f * mass * values[i] : mass;
      values[i] = weight * (slope + (label == c ? of[3 * c] : 0.0f));
    }
    own.store(values, row, dp);
  }
};

SumShape shapeOf(const Tensor& p) { return {p.shape[0], rowsOf(p) / p.shape[0], p.channels()}; }

size_t diceSumsWorkspace(const Step& step) { return sumBytes<3>(shapeOf(step.inputs[0])); }

void runDiceSums(const Step& step) {
  const Tensor& p = step.inputs[0];
  const SumShape shape = shapeOf(p);
  columnSums<3>("diceSums", shape, step.workspace,
                AddOverlap{p.f32(), Voxels(step.inputs[1], p.channels()), shape.rows, shape.columns,
                           step.attributes.flag("squared")},
                StoreOverlap{shape.columns, step.output.f32()});
}

void runDiceSumsGradient(const Step& step) {
  const Tensor& p = step.inputs[0];
  const SumShape shape = shapeOf(p);
  forEachRow("diceSumsGradient", step, shape.sets, shape.rows, shape.columns,
             OverlapGradient{p.f32(), Voxels(step.inputs[1], p.channels()), step.inputs[2].f32(),
                             step.attributes.flag("squared"), step.output.f32()});
}

__global__ void __launch_bounds__(sumThreads) diceOfSumsKernel(DiceTerm dice, const float* from, float* y) {
  double sums[1] = {};
  const int64_t classes = dice.classes - dice.first;
  for (int64_t i = threadIdx.x; i < dice.count(); i += sumThreads) {
    const auto ratio = dice.ratio(from, i / classes, dice.first + i % classes);
    sums[0] += 1 - ratio.over / ratio.under;
  }
  addRowsOfBlock<1>(sumThreads, 1, sums);
  if (threadIdx.x == 0) *y = static_cast<float>(sums[0] / static_cast<double>(dice.count()));
}

void runDiceOfSums(const Step& step) {
  LAUNCH(diceOfSumsKernel, Grid{1, sumThreads, sumThreads * sizeof(double)}, DiceTerm::of(step),
         step.inputs[0].f32(), step.output.f32());
}

// Of the three sums in each row.
struct DiceOfSumsGradient {
  DiceTerm dice;
  const float *sums, *dy;
  float* dx;
  __device__ void operator()(int64_t i) const {
    float of[3];
    dice.slopes(sums, i / dice.rows, i % dice.rows, *dy, of);
    for (int k = 0; k < 3; k++) dx[3 * i + k] = of[k];
  }
};

void runDiceOfSumsGradient(const Step& step) {
  const DiceTerm dice = DiceTerm::of(step);
  forEach("diceOfSumsGradient", dice.samples * dice.rows,
          DiceOfSumsGradient{dice, step.inputs[0].f32(), step.inputs[1].f32(), step.output.f32()});
}

}  // namespace

const KernelTable diceKernels = {
    kernel("diceSums", runDiceSums, diceSumsWorkspace),
    kernel("diceSumsGradient", runDiceSumsGradient),
    kernel("diceOfSums", runDiceOfSums),
    kernel("diceOfSumsGradient", runDiceOfSumsGradient),
};

}  // namespace voxgrad::cuda
