// Tiles of Winograd convolution along one axis, as types from which those of two axes are built. Compiled
// once per instruction set; see simd.h.
//
// A tile has so many `outputs` and reads `sources` voxels, of which it shares the first `sources - outputs`
// with the tile before. It meets those `taps` of the kernel's three that tapOf numbers. Its transforms work
// on `frequencies` values; that of sources in place. `pitch` is how far apart rows of frequencies are
// numbered.
#pragma once

#include "winograd_phase_transforms.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

// F(Outputs, 3).
template <int Outputs>
struct Tile {
  static constexpr int outputs = Outputs, taps = 3, sources = Outputs + 2, frequencies = sources;
  static constexpr int pitch = frequencies;
  static constexpr int tapOf(int i) { return i; }
  VOXGRAD_INLINE void source(vfloat (&s)[frequencies]) { transformSource(s); }
  VOXGRAD_INLINE void output(const vfloat (&m)[frequencies], vfloat (&y)[outputs]) { transformOutput(m, y); }
  VOXGRAD_INLINE void filter(const vfloat (&g)[taps], vfloat (&out)[frequencies]) { transformFilter(g, out); }
  VOXGRAD_INLINE void gradient(const vfloat (&y)[outputs], vfloat (&out)[frequencies]) {
    transformGradient(y, out);
  }
  VOXGRAD_INLINE void filterGradient(const vfloat (&m)[frequencies], vfloat (&g)[taps]) {
    transformFilterGradient(m, g);
  }
};

// A phase of stride 2, of two taps, the outer ones, or of one.
template <int Taps>
struct Phase {
  static constexpr int outputs = 4, taps = Taps, sources = outputs + Taps - 1, frequencies = sources;
  static constexpr int pitch = 5;
  static constexpr int tapOf(int i) { return Taps == 2 ? 2 * i : 1; }
  VOXGRAD_INLINE void source(vfloat (&s)[frequencies]) { transformPhaseSource(s); }
  VOXGRAD_INLINE void output(const vfloat (&m)[frequencies], vfloat (&y)[outputs]) {
    transformPhaseOutput(m, y);
  }
  VOXGRAD_INLINE void filter(const vfloat (&g)[taps], vfloat (&out)[frequencies]) {
    transformPhaseFilter(g, out);
  }
  VOXGRAD_INLINE void gradient(const vfloat (&y)[outputs], vfloat (&out)[frequencies]) {
    transformPhaseGradient(y, out);
  }
  VOXGRAD_INLINE void filterGradient(const vfloat (&m)[frequencies], vfloat (&g)[taps]) {
    transformPhaseFilterGradient(m, g);
  }
};

// A map of two voxels with one of padding at either side, which leaves four of six products:
//   y0 = g1 s0 + g2 s1,  y1 = g0 s0 + g1 s1.
// Three are enough, as for every Toeplitz matrix of two rows.
struct Pair {
  static constexpr int outputs = 2, taps = 3, sources = 2, frequencies = 3, pitch = 3;
  static constexpr int tapOf(int i) { return i; }
  VOXGRAD_INLINE void source(vfloat (&s)[frequencies]) { s[2] = s[0] + s[1]; }
  VOXGRAD_INLINE void output(const vfloat (&m)[frequencies], vfloat (&y)[outputs]) {
    y[0] = m[2] + m[1];
    y[1] = m[2] + m[0];
  }
  VOXGRAD_INLINE void filter(const vfloat (&g)[taps], vfloat (&out)[frequencies]) {
    out[0] = g[0] - g[1];
    out[1] = g[2] - g[1];
    out[2] = g[1];
  }
  VOXGRAD_INLINE void gradient(const vfloat (&y)[outputs], vfloat (&out)[frequencies]) {
    out[0] = y[1];
    out[1] = y[0];
    out[2] = y[0] + y[1];
  }
  VOXGRAD_INLINE void filterGradient(const vfloat (&m)[frequencies], vfloat (&g)[taps]) {
    g[0] = m[0];
    g[1] = m[2] - m[0] - m[1];
    g[2] = m[1];
  }
};

// A map of one voxel, which meets the middle tap.
struct Single {
  static constexpr int outputs = 1, taps = 1, sources = 1, frequencies = 1, pitch = 1;
  static constexpr int tapOf(int) { return 1; }
  VOXGRAD_INLINE void source(vfloat (&)[1]) {}
  VOXGRAD_INLINE void output(const vfloat (&m)[1], vfloat (&y)[1]) { y[0] = m[0]; }
  VOXGRAD_INLINE void filter(const vfloat (&g)[1], vfloat (&out)[1]) { out[0] = g[0]; }
  VOXGRAD_INLINE void gradient(const vfloat (&y)[1], vfloat (&out)[1]) { out[0] = y[0]; }
  VOXGRAD_INLINE void filterGradient(const vfloat (&m)[1], vfloat (&g)[1]) { g[0] = m[0]; }
};

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
