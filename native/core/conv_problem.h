// The shape of one convolution, shared by every backend.
#pragma once

#include <cstdint>
#include <string>

namespace voxgrad {

// One convolution, in the letters of the field:
//   x [N, D, H, W, C], w [K, R, S, T, C / groups], y [N, Z, P, Q, K], dense row-major float32.
//   y[n, z, p, q, k] = sum over r, s, t, c of
//     x[n, z*stride0 + r*dilation0 - pad0, p*stride1 + s*dilation1 - pad1, q*stride2 + t*dilation2 - pad2, c]
//     * w[k, r, s, t, c]
// where reads outside x give zero. Axes of stride, pad (zeros before the first voxel) and dilation are d, h,
// w. Z, P, Q are free: the usual formula is not required, so a transposed convolution with output padding is
// the input gradient of such a problem.
struct Conv3dProblem {
  int64_t N = 1, D = 1, H = 1, W = 1, C = 1;
  int64_t K = 1, R = 1, S = 1, T = 1;
  int64_t Z = 1, P = 1, Q = 1;
  int64_t stride[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0};
  int64_t dilation[3] = {1, 1, 1};
  int64_t groups = 1;
  // Where x or y is some channels of a wider tensor: floats from one voxel to the next, 0 where nothing lies
  // between. `adds` says that a result is added to what is there. Only some kernels know either.
  int64_t xPitch = 0, yPitch = 0;
  bool adds = false;

  int64_t xVoxel() const { return xPitch ? xPitch : C; }
  int64_t yVoxel() const { return yPitch ? yPitch : K; }
  int64_t taps() const { return R * S * T; }
  int64_t weightFloats() const { return K * taps() * (C / groups); }

  // Floating-point operations of one pass (a multiply-add counts as two), taps in the padding included.
  int64_t flops() const { return 2 * N * Z * P * Q * K * taps() * (C / groups); }

  // True when every kernel may run this problem without leaving its buffers or overflowing int64: positive
  // extents, channels divisible by groups, stride, dilation and pad within 2^15, and x, w, y and their
  // copies with padded rows below 2^40 bytes. Otherwise false, and *why (when given) says what is wrong.
  bool validate(std::string* why = nullptr) const {
    const auto refuse = [why](const std::string& reason) {
      if (why) *why = reason;
      return false;
    };
    const struct {
      const char* name;
      int64_t value;
    } extents[] = {{"N", N}, {"D", D}, {"H", H}, {"W", W}, {"C", C}, {"K", K},          {"R", R},
                   {"S", S}, {"T", T}, {"Z", Z}, {"P", P}, {"Q", Q}, {"groups", groups}};
    for (const auto& extent : extents) {
      if (extent.value < 1 || extent.value > kMaxExtent) {
        return refuse(std::string(extent.name) + " = " + std::to_string(extent.value) + ": expected 1 to " +
                      std::to_string(kMaxExtent));
      }
    }
    for (int axis = 0; axis < 3; ++axis) {
      if (stride[axis] < 1 || stride[axis] > kMaxStep || dilation[axis] < 1 || dilation[axis] > kMaxStep ||
          pad[axis] < 0 || pad[axis] > kMaxStep) {
        return refuse("axis " + std::to_string(axis) + " has stride " + std::to_string(stride[axis]) +
                      ", pad " + std::to_string(pad[axis]) + ", dilation " + std::to_string(dilation[axis]) +
                      ": expected stride and dilation 1 to 32768, pad 0 to 32768");
      }
    }
    if (C % groups != 0 || K % groups != 0) {
      return refuse("C = " + std::to_string(C) + " and K = " + std::to_string(K) +
                    " must both be divisible by groups = " + std::to_string(groups));
    }
    const int64_t reach = pad[2] + T * dilation[2];
    if (!fits({N, D, H, W + reach + Q * stride[2], C}))
      return refuse("x with padded rows exceeds 2^40 bytes");
    if (!fits({N, Z, P, Q + reach + W, K})) return refuse("y with padded rows exceeds 2^40 bytes");
    if (!fits({K, R, S, T, C / groups})) return refuse("w exceeds 2^40 bytes");
    return true;
  }

 private:
  static constexpr int64_t kMaxExtent = int64_t{1} << 31;
  static constexpr int64_t kMaxStep = int64_t{1} << 15;

  static bool fits(const int64_t (&extents)[5]) {
    int64_t room = (int64_t{1} << 40) / static_cast<int64_t>(sizeof(float));
    for (const int64_t extent : extents) room /= extent;
    return room > 0;
  }
};

}  // namespace voxgrad
