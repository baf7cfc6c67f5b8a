// From the number of a thread to a place in a tensor, without the dozens of instructions of a division.
#pragma once

#include "cuda.h"

namespace voxgrad::cuda {

// Division of indices by a number that is known at launch, as a multiplication (Granlund and Montgomery,
// "Division by invariant integers using multiplication", PLDI '94, figure 4.1): of 32 bits where that will
// do, else of 64.
class Divisor {
 public:
  explicit Divisor(int64_t by) : by_(by), below_(by < limit ? limit : 0) {
    while (shift_ < 62 && int64_t{1} << shift_ < by) shift_++;
    const auto divisor = static_cast<uint64_t>(by), rest = (uint64_t{1} << shift_) - divisor;
    if (by < limit) magic32_ = static_cast<uint32_t>((rest << 32) / divisor + 1);
    magic64_ = quotientOfHigh(rest, divisor) + 1;
  }

  __device__ __forceinline__ int64_t quotient(int64_t n) const {
    if (n < below_) {
      const auto low = static_cast<uint32_t>(n);
      return (__umulhi(low, magic32_) + low) >> shift_;
    }
    const auto whole = static_cast<uint64_t>(n);
    return static_cast<int64_t>((__umul64hi(whole, magic64_) + whole) >> shift_);
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

  // high * 2^64 / divisor, for high < divisor.
  static uint64_t quotientOfHigh(uint64_t high, uint64_t divisor) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(high) << 64) / divisor);
  }

  int64_t by_, below_;
  uint64_t magic64_;
  uint32_t magic32_ = 0, shift_ = 0;
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
