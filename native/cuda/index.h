// From the number of a thread to a place in a tensor, without the dozens of instructions of a division.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// Division of indices by a number that is known at launch, as a multiplication where both fit 31 bits
// (Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI '94, figure 4.1).
class Divisor {
 public:
  explicit Divisor(int64_t by) : by_(by), below_(by < limit ? limit : 0) {
    if (by >= limit) return;
    while (int64_t{1} << shift_ < by) shift_++;
    const auto rest = static_cast<uint64_t>((int64_t{1} << shift_) - by);
    magic_ = static_cast<uint32_t>((rest << 32) / static_cast<uint64_t>(by) + 1);
  }

  __device__ __forceinline__ int64_t quotient(int64_t n) const {
    if (n >= below_) return n / by_;
    const auto low = static_cast<uint32_t>(n);
    return (__umulhi(low, magic_) + low) >> shift_;
  }
  __device__ __forceinline__ int64_t remainder(int64_t n) const { return n - quotient(n) * by_; }
  // The remainder; *n becomes the quotient.
  __device__ __forceinline__ int64_t split(int64_t* n) const {
    const int64_t whole = quotient(*n), rest = *n - whole * by_;
    *n = whole;
    return rest;
  }

 private:
  static constexpr int64_t limit = int64_t{1} << 31;
  int64_t by_, below_;
  uint32_t magic_ = 0, shift_ = 0;
};

struct Place {
  int64_t n, d, h, w, c;
};

// The places of a tensor [N, D, H, W, C] in order, `width` channels at a time.
class Places {
 public:
  Places(const Tensor& tensor, int width)
      : d_(tensor.shape[1]),
        h_(tensor.shape[2]),
        w_(tensor.shape[3]),
        c_(tensor.shape[4] / width),
        width_(width) {}

  __device__ __forceinline__ Place at(int64_t i) const {
    Place place;
    place.c = c_.split(&i) * width_;
    place.w = w_.split(&i);
    place.h = h_.split(&i);
    place.d = d_.split(&i);
    place.n = i;
    return place;
  }

 private:
  Divisor d_, h_, w_, c_;
  int width_;
};

}  // namespace voxgrad::cuda
