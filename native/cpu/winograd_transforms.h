// The transforms of Winograd convolution along one axis, for three taps: F(2, 3) on arrays of 4, F(3, 3) on
// arrays of 5 and F(4, 3) on arrays of 6. Compiled once per instruction set; see simd.h.
//
// F(2, 3) is the one of Lavin and Gray (see winograd_kernels.h). F(4, 3) follows from the Cook-Toom
// construction with the points 0, +-1/sqrt(2), +-sqrt(2) and infinity. With 0, +-1, +-2 and infinity, which
// Lavin and Gray take, errors are four times as large (1.6e-5 of the largest value at 512 channels): powers
// of
// +-2 spread the numbers wider. How the choice of points bounds the error is in Barabasz et al., "Error
// analysis and improving the accuracy of Winograd convolution for deep neural networks", ACM TOMS 46(4),
// 2020. F(3, 3) has the points of the phases of stride 2, and errors hardly above those of F(2, 3).
#pragma once

#include "simd.h"
#include "winograd_phase_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

constexpr float kNear = 0.70710678f, kFar = 1.41421356f;  // kNear * kFar = 1

VOXGRAD_INLINE void transformSource(vfloat (&s)[4]) {
  const vfloat second = s[1] + s[2], third = s[2] - s[1];
  s[0] = s[0] - s[2];
  s[3] = s[1] - s[3];
  s[1] = second;
  s[2] = third;
}

VOXGRAD_INLINE void transformSource(vfloat (&s)[6]) {
  const vfloat nearEven = s[4] - 2.0f * s[2], nearOdd = kNear * s[3] - kFar * s[1];
  const vfloat farEven = s[4] - 0.5f * s[2], farOdd = kFar * s[3] - kNear * s[1];
  s[0] = (s[0] + s[4]) - 2.5f * s[2];
  s[5] = (s[1] + s[5]) - 2.5f * s[3];
  s[1] = nearEven + nearOdd;
  s[2] = nearEven - nearOdd;
  s[3] = farEven + farOdd;
  s[4] = farEven - farOdd;
}

VOXGRAD_INLINE void transformSource(vfloat (&s)[5]) { transformPhaseSource(s); }

VOXGRAD_INLINE void transformFilter(const vfloat (&g)[3], vfloat (&out)[4]) {
  const vfloat outer = (g[0] + g[2]) * 0.5f, inner = g[1] * 0.5f;
  out[0] = g[0];
  out[1] = outer + inner;
  out[2] = outer - inner;
  out[3] = g[2];
}

VOXGRAD_INLINE void transformFilter(const vfloat (&g)[3], vfloat (&out)[6]) {
  const vfloat nearEven = (g[0] + 0.5f * g[2]) * (-2.0f / 3), nearOdd = g[1] * (-2.0f / 3 * kNear);
  const vfloat farEven = (g[0] + 2.0f * g[2]) * (1.0f / 6), farOdd = g[1] * (kFar / 6);
  out[0] = g[0];
  out[1] = nearEven + nearOdd;
  out[2] = nearEven - nearOdd;
  out[3] = farEven + farOdd;
  out[4] = farEven - farOdd;
  out[5] = g[2];
}

VOXGRAD_INLINE void transformFilter(const vfloat (&g)[3], vfloat (&out)[5]) {
  const vfloat innerEven = -kPhaseScale * (g[0] + kInner2 * g[2]), innerOdd = (-kPhaseScale * kInner) * g[1];
  const vfloat outerEven = kPhaseScale * (g[0] + kOuter2 * g[2]), outerOdd = (kPhaseScale * kOuter) * g[1];
  out[0] = innerEven + innerOdd;
  out[1] = innerEven - innerOdd;
  out[2] = outerEven + outerOdd;
  out[3] = outerEven - outerOdd;
  out[4] = g[2];
}

VOXGRAD_INLINE void transformOutput(const vfloat (&m)[4], vfloat (&y)[2]) {
  y[0] = m[0] + m[1] + m[2];
  y[1] = m[1] - m[2] - m[3];
}

VOXGRAD_INLINE void transformOutput(const vfloat (&m)[5], vfloat (&y)[3]) {
  const vfloat innerEven = m[0] + m[1], outerEven = m[2] + m[3];
  y[0] = innerEven + outerEven;
  y[1] = kInner * (m[0] - m[1]) + kOuter * (m[2] - m[3]);
  y[2] = m[4] + kInner2 * innerEven + kOuter2 * outerEven;
}

VOXGRAD_INLINE void transformOutput(const vfloat (&m)[6], vfloat (&y)[4]) {
  const vfloat nearEven = m[1] + m[2], nearOdd = m[1] - m[2];
  const vfloat farEven = m[3] + m[4], farOdd = m[3] - m[4];
  y[0] = m[0] + nearEven + farEven;
  y[1] = kNear * nearOdd + kFar * farOdd;
  y[2] = 0.5f * nearEven + 2.0f * farEven;
  y[3] = (m[5] + 0.5f * kNear * nearOdd) + 2.0f * kFar * farOdd;
}

// The transpose of transformOutput.
VOXGRAD_INLINE void transformGradient(const vfloat (&y)[2], vfloat (&out)[4]) {
  out[0] = y[0];
  out[1] = y[0] + y[1];
  out[2] = y[0] - y[1];
  out[3] = -y[1];
}

VOXGRAD_INLINE void transformGradient(const vfloat (&y)[3], vfloat (&out)[5]) {
  const vfloat innerEven = y[0] + kInner2 * y[2], outerEven = y[0] + kOuter2 * y[2];
  out[0] = innerEven + kInner * y[1];
  out[1] = innerEven - kInner * y[1];
  out[2] = outerEven + kOuter * y[1];
  out[3] = outerEven - kOuter * y[1];
  out[4] = y[2];
}

VOXGRAD_INLINE void transformGradient(const vfloat (&y)[4], vfloat (&out)[6]) {
  const vfloat nearEven = y[0] + 0.5f * y[2], nearOdd = kNear * y[1] + 0.5f * kNear * y[3];
  const vfloat farEven = y[0] + 2.0f * y[2], farOdd = kFar * y[1] + 2.0f * kFar * y[3];
  out[0] = y[0];
  out[1] = nearEven + nearOdd;
  out[2] = nearEven - nearOdd;
  out[3] = farEven + farOdd;
  out[4] = farEven - farOdd;
  out[5] = y[3];
}

// The transpose of transformFilter.
VOXGRAD_INLINE void transformFilterGradient(const vfloat (&m)[4], vfloat (&g)[3]) {
  const vfloat even = (m[1] + m[2]) * 0.5f;
  g[0] = m[0] + even;
  g[1] = (m[1] - m[2]) * 0.5f;
  g[2] = even + m[3];
}

VOXGRAD_INLINE void transformFilterGradient(const vfloat (&m)[5], vfloat (&g)[3]) {
  const vfloat innerEven = m[0] + m[1], outerEven = m[2] + m[3];
  g[0] = kPhaseScale * (outerEven - innerEven);
  g[1] = kPhaseScale * (kOuter * (m[2] - m[3]) - kInner * (m[0] - m[1]));
  g[2] = m[4] + kPhaseScale * (kOuter2 * outerEven - kInner2 * innerEven);
}

VOXGRAD_INLINE void transformFilterGradient(const vfloat (&m)[6], vfloat (&g)[3]) {
  const vfloat nearEven = m[1] + m[2], nearOdd = m[1] - m[2];
  const vfloat farEven = m[3] + m[4], farOdd = m[3] - m[4];
  g[0] = m[0] - 2.0f / 3 * nearEven + 1.0f / 6 * farEven;
  g[1] = kFar / 6 * farOdd - 2.0f / 3 * kNear * nearOdd;
  g[2] = m[5] + 1.0f / 3 * (farEven - nearEven);
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
