// The losses of a segmentation and the gradient of its logits as one step, decoded for every backend. Inputs
// are the sums [samples, classes + 2, 3] that the losses are made of, which are written as well, the logits,
// the labels, the slope of all in each loss, and perhaps a mask.
#pragma once

#include <algorithm>

#include "loss_terms.h"

namespace voxgrad {

class SegmentationStep {
 public:
  // Throws Error("ERR_PLAN") where the losses are not valid or are more or fewer than the slopes.
  explicit SegmentationStep(const Step& step) : step_(step) {
    expectInputs(step, firstSlope + 1, firstSlope + LossTerms::most + 1);
    const size_t terms = step.attributes.list("terms").size() / numbersOfTerm, last = firstSlope + terms;
    numbers_ = step.attributes.list("terms").data();
    if (step.attributes.list("terms").size() % numbersOfTerm != 0 || terms < 1 || terms > LossTerms::most ||
        step.inputs.size() < last || step.inputs.size() > last + 1)
      refuse(step, "terms are not valid");
    for (size_t i = 0; i < terms; i++) {
      const double* of = numbers_ + i * numbersOfTerm;
      const double most = static_cast<double>(logits().channels() + (of[0] != 0 ? 0 : 1));
      if (!(of[1] >= 0 && of[1] <= most)) refuse(step, "terms are not valid");
    }
    terms_ = static_cast<int>(terms);
    masked_ = step.inputs.size() > last;
  }

  // Throws Error("ERR_PLAN") unless all of it fits together.
  void check() const {
    expectDType(step_, logits(), DType::f32);
    if (logits().rank < 2 || logits().channels() > 256)
      refuse(step_, "expected logits of 256 classes at most");
    const int64_t voxels = logits().count() / std::max<int64_t>(logits().channels(), 1);
    expectDType(step_, labels(), DType::u8);
    expectCount(step_, labels(), voxels);
    expectDType(step_, sums(), DType::f32);
    expectCount(step_, sums(), logits().shape[0] * 3 * (logits().channels() + 2));
    expectDType(step_, step_.output, DType::f32);
    expectSameShape(step_, logits(), step_.output);
    step_.attributes.flag("squared");
    step_.attributes.flag("background");
    for (int i = 0; i < terms_; i++) {
      expectDType(step_, slope(i), DType::f32);
      expectCount(step_, slope(i), 1);
    }
    if (!masked_) return;
    expectDType(step_, step_.inputs.back(), DType::u8);
    expectCount(step_, step_.inputs.back(), voxels);
  }

  const Tensor& sums() const { return step_.inputs[0]; }
  const Tensor& logits() const { return step_.inputs[1]; }
  const Tensor& labels() const { return step_.inputs[2]; }
  // Null where there is none.
  const uint8_t* mask() const { return masked_ ? step_.inputs.back().u8() : nullptr; }

  LossTerms terms() const {
    LossTerms all;
    all.count = terms_;
    const int64_t samples = logits().shape[0], rows = logits().channels() + 2;
    for (int i = 0; i < terms_; i++) {
      const double* of = numbers_ + static_cast<size_t>(i) * numbersOfTerm;
      const auto which = static_cast<int64_t>(of[1]);
      all.term[i] = {of[0] != 0,
                     {samples, rows, which},
                     {samples, rows, which, of[3] != 0 ? 0 : 1, of[4] != 0, of[2]},
                     slope(i).f32()};
    }
    return all;
  }

 private:
  static constexpr size_t firstSlope = 3;
  // The attribute `terms` has so many numbers of each: whether it is Dice, the row or number of classes, and
  // of Dice `smooth`, `background` and `perSample`.
  static constexpr size_t numbersOfTerm = 5;

  const Tensor& slope(int i) const { return step_.inputs[firstSlope + static_cast<size_t>(i)]; }

  const Step& step_;
  const double* numbers_;
  int terms_;
  bool masked_;
};

}  // namespace voxgrad
