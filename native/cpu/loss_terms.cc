// Losses that are made of sums over voxels, and their gradients in these sums.
#include "../core/loss_terms.h"

#include <algorithm>

#include "kernels.h"
#include "voxels.h"

namespace voxgrad::cpu {

// Writes the slopes of the loss in all sums.
template <class Term>
static void slopesOf(const Term& term, const Step& step) {
  const float* sums = step.inputs[0].f32();
  const float dy = step.inputs[1].f32()[0];
  for (int64_t i = 0; i < term.samples * term.rows; i++) {
    float of[3];
    term.slopes(sums, i / term.rows, i % term.rows, dy, of);
    std::copy(of, of + 3, step.output.f32() + 3 * i);
  }
}

// Inputs: the sums, and in gradients the slope in the loss.
static void checkTerm(const Step& step, bool gradient) {
  expectInputs(step, gradient ? 2 : 1, gradient ? 2 : 1);
  const Tensor& sums = step.inputs[0];
  expectDType(step, sums, DType::f32);
  expectRank(step, sums, 3);
  if (sums.shape[2] != 3) refuse(step, "expected rows of three sums");
  expectDType(step, step.output, DType::f32);
  if (gradient) {
    expectFloat(step, step.inputs[1], 1);
    expectSameShape(step, sums, step.output);
  } else {
    expectCount(step, step.output, 1);
  }
}

template <bool gradient>
static size_t prepareRatio(const Step& step) {
  checkTerm(step, gradient);
  const int64_t row = step.attributes.integer("row");
  if (row < 0 || row >= step.inputs[0].shape[1]) refuse(step, "expected a row of the sums");
  return 0;
}

template <bool gradient>
static size_t prepareDiceOfSums(const Step& step) {
  checkTerm(step, gradient);
  const int64_t classes = DiceTerm::of(step).classes;
  if (classes < 1 || classes > step.inputs[0].shape[1]) refuse(step, "expected sums of every class");
  return 0;
}

static void runRatio(const Step& step) {
  const RatioTerm term = RatioTerm::of(step);
  const double over = term.total(step.inputs[0].f32(), 0), under = term.total(step.inputs[0].f32(), 1);
  // A NaN among voxels that do not count must show as well.
  step.output.f32()[0] = static_cast<float>(under > 0 ? over / under : over);
}

static void runRatioGradient(const Step& step) { slopesOf(RatioTerm::of(step), step); }

static void runDiceOfSums(const Step& step) {
  const DiceTerm dice = DiceTerm::of(step);
  double total = 0;
  for (int64_t sample = 0; sample < (dice.perSample ? dice.samples : 1); sample++)
    for (int64_t c = dice.first; c < dice.classes; c++) {
      const auto [over, under] = dice.ratio(step.inputs[0].f32(), sample, c);
      total += 1 - over / under;
    }
  step.output.f32()[0] = static_cast<float>(total / static_cast<double>(dice.count()));
}

static void runDiceOfSumsGradient(const Step& step) { slopesOf(DiceTerm::of(step), step); }

const KernelTable lossTermKernels = {
    {"ratioOfSums", prepareRatio<false>, runRatio},
    {"ratioOfSumsGradient", prepareRatio<true>, runRatioGradient},
    {"diceOfSums", prepareDiceOfSums<false>, runDiceOfSums},
    {"diceOfSumsGradient", prepareDiceOfSums<true>, runDiceOfSumsGradient},
};

}  // namespace voxgrad::cpu
