// Losses that are made of sums [samples, rows, 3], and their gradients in these sums.
#pragma once

#include "everywhere.h"
#include "tensor.h"

namespace voxgrad {

// The first sum of a row divided by the second one, both over all samples.
struct RatioTerm {
  int64_t samples, rows, row;

  static RatioTerm of(const Step& step) {
    const Tensor& sums = step.inputs[0];
    return {sums.shape[0], sums.shape[1], step.attributes.integer("row")};
  }

  VOXGRAD_EVERYWHERE double total(const float* sums, int k) const {
    double sum = 0;
    for (int64_t sample = 0; sample < samples; sample++) sum += sums[(sample * rows + row) * 3 + k];
    return sum;
  }
  // In the three sums of a row of one sample.
  VOXGRAD_EVERYWHERE void slopes(const float* sums, int64_t, int64_t of, float dy, float (&into)[3]) const {
    into[0] = into[1] = into[2] = 0;
    if (of != row) return;
    const double over = total(sums, 0), under = total(sums, 1), slope = under > 0 ? dy / under : 0;
    into[0] = static_cast<float>(slope);
    into[1] = slope == 0 ? 0.0f : static_cast<float>(-slope * over / under);
  }
};

// Dice of the first `classes` classes, those before `first` left out, of one sample or of all together.
struct DiceTerm {
  int64_t samples, rows, classes, first;
  bool perSample;
  double smooth;

  static DiceTerm of(const Step& step) {
    const Tensor& sums = step.inputs[0];
    return {sums.shape[0],
            sums.shape[1],
            step.attributes.integer("classes"),
            step.attributes.flag("background") ? 0 : 1,
            step.attributes.flag("perSample"),
            step.attributes.number("smooth")};
  }

  // Numbers that the loss is the mean of: one to a class, and to a sample with perSample.
  VOXGRAD_EVERYWHERE int64_t count() const { return (perSample ? samples : 1) * (classes - first); }

  // Twice the overlap, and what it is divided by, both with `smooth` added.
  struct Ratio {
    double over, under;
  };
  VOXGRAD_EVERYWHERE Ratio ratio(const float* sums, int64_t sample, int64_t c) const {
    Ratio r = {smooth, smooth};
    for (int64_t s = perSample ? sample : 0; s < (perSample ? sample + 1 : samples); s++) {
      const float* of = sums + (s * rows + c) * 3;
      r.over += 2.0 * of[0];
      r.under += double(of[1]) + of[2];
    }
    return r;
  }
  VOXGRAD_EVERYWHERE void slopes(const float* sums, int64_t sample, int64_t c, float dy,
                                 float (&into)[3]) const {
    into[0] = into[1] = into[2] = 0;
    if (c < first || c >= classes) return;
    const double slope = dy / static_cast<double>(count());
    const Ratio r = ratio(sums, sample, c);
    into[0] = static_cast<float>(-2 * slope / r.under);
    into[1] = into[2] = static_cast<float>(slope * r.over / (r.under * r.under));
  }
};

// A loss whose gradient is wanted, and the slope of all in it.
struct LossTerm {
  bool isDice;
  RatioTerm ratio;
  DiceTerm dice;
  const float* dy;

  VOXGRAD_EVERYWHERE void slopes(const float* sums, int64_t sample, int64_t row, float (&into)[3]) const {
    if (isDice)
      dice.slopes(sums, sample, row, *dy, into);
    else
      ratio.slopes(sums, sample, row, *dy, into);
  }
};

// All losses whose gradients are wanted.
struct LossTerms {
  static constexpr int most = 8;
  LossTerm term[most] = {};
  int count = 0;

  VOXGRAD_EVERYWHERE void slopes(const float* sums, int64_t sample, int64_t row, float (&into)[3]) const {
    into[0] = into[1] = into[2] = 0;
    for (int i = 0; i < count; i++) {
      float of[3];
      term[i].slopes(sums, sample, row, of);
      for (int k = 0; k < 3; k++) into[k] += of[k];
    }
  }
};

}  // namespace voxgrad
