// The transforms of Winograd convolution with stride 2 along one axis: F(4, 2) and F(4, 1) in one domain.
// Compiled once per instruction set; see simd.h.
//
// Of the source voxels, every other one meets the first and the last of three taps, and those between meet
// the middle one: two convolutions with stride 1, one of two taps and one of one, whose sums are the outputs.
// Both are multiplied at the points +-1/2 and +-5/4, and that of two taps at infinity as well, where a filter
// of one tap is zero. These points follow from trying some: they are exact, and errors are half of those of
// +-1/sqrt(2) and +-sqrt(2). The construction is that of Cook and Toom, see winograd_transforms.h.
#pragma once

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

constexpr float kInner = 0.5f, kOuter = 1.25f;
constexpr float kInner2 = kInner * kInner, kOuter2 = kOuter * kOuter;
constexpr float kPhaseScale = 0.5f / (kOuter2 - kInner2);

VOXGRAD_INLINE void transformPhaseSource(vfloat (&s)[4]) {
  const vfloat innerEven = s[2] - kOuter2 * s[0], innerOdd = (1 / kInner) * s[3] - (kOuter2 / kInner) * s[1];
  const vfloat outerEven = s[2] - kInner2 * s[0], outerOdd = (1 / kOuter) * s[3] - (kInner2 / kOuter) * s[1];
  s[0] = innerEven + innerOdd;
  s[1] = innerEven - innerOdd;
  s[2] = outerEven + outerOdd;
  s[3] = outerEven - outerOdd;
}

VOXGRAD_INLINE void transformPhaseSource(vfloat (&s)[5]) {
  s[4] = s[4] - (kInner2 + kOuter2) * s[2] + (kInner2 * kOuter2) * s[0];
  vfloat finite[4] = {s[0], s[1], s[2], s[3]};
  transformPhaseSource(finite);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) s[i] = finite[i];
}

VOXGRAD_INLINE void transformPhaseFilter(const vfloat (&g)[1], vfloat (&out)[4]) {
  out[0] = out[1] = -kPhaseScale * g[0];
  out[2] = out[3] = kPhaseScale * g[0];
}

VOXGRAD_INLINE void transformPhaseFilter(const vfloat (&g)[2], vfloat (&out)[5]) {
  const vfloat even = kPhaseScale * g[0], odd = kPhaseScale * g[1];
  out[0] = -even - kInner * odd;
  out[1] = kInner * odd - even;
  out[2] = even + kOuter * odd;
  out[3] = even - kOuter * odd;
  out[4] = g[1];
}

VOXGRAD_INLINE void transformPhaseOutput(const vfloat (&m)[4], vfloat (&y)[4]) {
  const vfloat innerEven = m[0] + m[1], innerOdd = m[0] - m[1];
  const vfloat outerEven = m[2] + m[3], outerOdd = m[2] - m[3];
  y[0] = innerEven + outerEven;
  y[1] = kInner * innerOdd + kOuter * outerOdd;
  y[2] = kInner2 * innerEven + kOuter2 * outerEven;
  y[3] = kInner * kInner2 * innerOdd + kOuter * kOuter2 * outerOdd;
}

VOXGRAD_INLINE void transformPhaseOutput(const vfloat (&m)[5], vfloat (&y)[4]) {
  const vfloat finite[4] = {m[0], m[1], m[2], m[3]};
  transformPhaseOutput(finite, y);
  y[3] += m[4];
}

// The transpose of transformPhaseOutput.
VOXGRAD_INLINE void transformPhaseGradient(const vfloat (&y)[4], vfloat (&out)[5]) {
  const vfloat innerEven = y[0] + kInner2 * y[2], innerOdd = kInner * y[1] + kInner * kInner2 * y[3];
  const vfloat outerEven = y[0] + kOuter2 * y[2], outerOdd = kOuter * y[1] + kOuter * kOuter2 * y[3];
  out[0] = innerEven + innerOdd;
  out[1] = innerEven - innerOdd;
  out[2] = outerEven + outerOdd;
  out[3] = outerEven - outerOdd;
  out[4] = y[3];
}

// The transpose of transformPhaseFilter.
VOXGRAD_INLINE void transformPhaseFilterGradient(const vfloat (&m)[4], vfloat (&g)[1]) {
  g[0] = kPhaseScale * ((m[2] + m[3]) - (m[0] + m[1]));
}

VOXGRAD_INLINE void transformPhaseFilterGradient(const vfloat (&m)[5], vfloat (&g)[2]) {
  g[0] = kPhaseScale * ((m[2] + m[3]) - (m[0] + m[1]));
  g[1] = m[4] + kPhaseScale * (kOuter * (m[2] - m[3]) - kInner * (m[0] - m[1]));
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
