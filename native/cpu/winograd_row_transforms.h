// The transforms of F(4, 4) along one axis, for Winograd convolution along W alone. Compiled once per
// instruction set; see simd.h.
//
// The points are +-1/2, +-1, +-2 and infinity: they are exact, come in pairs that share their even and odd
// halves, and errors of a 7x7x7 kernel stay near 1e-6 of the largest value. The construction is that of Cook
// and Toom, see winograd_transforms.h.
#pragma once

#include "simd.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

VOXGRAD_INLINE void transformSource(vfloat (&s)[7]) {
  const vfloat nearEven = s[4] + 4.0f * s[0] - 5.0f * s[2], nearOdd = s[5] + 4.0f * s[1] - 5.0f * s[3];
  const vfloat oneEven = (s[4] + s[0]) - 4.25f * s[2], oneOdd = (s[5] + s[1]) - 4.25f * s[3];
  const vfloat farEven = s[4] + 0.25f * s[0] - 1.25f * s[2], farOdd = s[5] + 0.25f * s[1] - 1.25f * s[3];
  s[6] = (s[6] - s[0]) + 5.25f * (s[2] - s[4]);
  s[0] = nearEven + 2.0f * nearOdd;
  s[1] = nearEven - 2.0f * nearOdd;
  s[2] = oneEven + oneOdd;
  s[3] = oneEven - oneOdd;
  s[4] = farEven + 0.5f * farOdd;
  s[5] = farEven - 0.5f * farOdd;
}

VOXGRAD_INLINE void transformOutput(const vfloat (&m)[7], vfloat (&y)[4]) {
  const vfloat nearEven = m[0] + m[1], nearOdd = m[0] - m[1];
  const vfloat oneEven = m[2] + m[3], oneOdd = m[2] - m[3];
  const vfloat farEven = m[4] + m[5], farOdd = m[4] - m[5];
  y[0] = nearEven + (oneEven + farEven);
  y[1] = 0.5f * nearOdd + (oneOdd + 2.0f * farOdd);
  y[2] = 0.25f * nearEven + (oneEven + 4.0f * farEven);
  y[3] = 0.125f * nearOdd + (oneOdd + (m[6] + 8.0f * farOdd));
}

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
