// The joined updates of many parameters, decoded for every backend. Inputs are the parameter and the velocity
// of each, copies of parameters packed for convolutions, the gradients, and the learning rate; the first
// parameter goes to the output, all else that comes before the gradients is written where it lies.
#pragma once

#include "tensor.h"

namespace voxgrad {

// A copy of a parameter [groups, filters, taps, channels] as a convolution reads it: of these elements in
// this order, or, `transposed`, [groups, channels, taps, filters].
struct SgdCopy {
  size_t parameter;
  bool transposed;
  int64_t groups;
};

// How many of the first inputs are written.
inline size_t updatedBySgd(const Step& step) {
  const size_t copies = step.attributes.has("copies") ? step.attributes.list("copies").size() / 3 : 0;
  return copies > step.inputs.size() ? 0 : (step.inputs.size() - copies) / 3 * 2 + copies;
}

class SgdStep {
 public:
  // Throws Error("ERR_PLAN") where the copies are more than the inputs, or not those of convolutions.
  explicit SgdStep(const Step& step) : step_(step) {
    if (step.attributes.has("copies")) {
      const size_t numbers = step.attributes.list("copies").size();
      const auto list = step.attributes.integers("copies", numbers);
      if (numbers % 3 != 0 || numbers / 3 > step.inputs.size()) refuse(step, "copies are not valid");
      for (size_t i = 0; i < numbers; i += 3)
        copies_.push_back({static_cast<size_t>(list[i]), list[i + 1] != 0, list[i + 2]});
    }
    count_ = (step.inputs.size() - copies_.size()) / 3;
    if (count_ == 0 || step.inputs.size() != 3 * count_ + copies_.size() + 1)
      refuse(step, "wrong number of inputs");
  }

  // Throws Error("ERR_PLAN") unless all of it fits together.
  void check() const {
    for (size_t i = 0; i < count_; i++)
      for (const Tensor* tensor : {&parameter(i), &velocity(i), &gradient(i)}) {
        expectDType(step_, *tensor, DType::f32);
        expectSameShape(step_, parameter(i), *tensor);
      }
    expectDType(step_, rate(), DType::f32);
    expectCount(step_, rate(), 1);
    expectDType(step_, step_.output, DType::f32);
    expectSameShape(step_, parameter(0), step_.output);
    for (const char* name : {"momentum", "weightDecay", "nesterov"}) step_.attributes.number(name);
    for (size_t i = 0; i < copies_.size(); i++) {
      const auto& [of, transposed, groups] = copies_[i];
      if (of >= count_) refuse(step_, "a copy of no parameter");
      expectRank(step_, parameter(of), 5);
      if (groups < 1 || parameter(of).shape[0] % groups != 0) refuse(step_, "groups are not valid");
      expectCount(step_, copyAt(i), parameter(of).count());
    }
  }

  size_t count() const { return count_; }
  const Tensor& parameter(size_t i) const { return step_.inputs[2 * i]; }
  const Tensor& velocity(size_t i) const { return step_.inputs[2 * i + 1]; }
  const Tensor& gradient(size_t i) const { return step_.inputs[2 * count_ + copies_.size() + i]; }
  const Tensor& rate() const { return step_.inputs.back(); }
  // Where the next parameter goes.
  const Tensor& next(size_t i) const { return i == 0 ? step_.output : parameter(i); }

  const std::vector<SgdCopy>& copies() const { return copies_; }
  const Tensor& copyAt(size_t i) const { return step_.inputs[2 * count_ + i]; }

 private:
  const Step& step_;
  std::vector<SgdCopy> copies_;
  size_t count_;
};

}  // namespace voxgrad
