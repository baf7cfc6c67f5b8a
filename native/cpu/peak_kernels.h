// The loops that measure what a machine can do at most, compiled once per instruction set. Plain data only.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

struct PeakKernels {
  // Independent multiply-adds in registers, enough of them to hide their latency; *sink keeps the result
  // alive.
  void (*multiplyAdd)(int64_t iterations, float* sink);
  int64_t operations;  // floating-point operations of one iteration

  // `count` floats, a multiple of the vector length, from one aligned place to another. `stream` writes past
  // the caches where the instruction set can.
  void (*copy)(float* to, const float* from, int64_t count);
  void (*stream)(float* to, const float* from, int64_t count);
};

}  // namespace cpu
}  // namespace voxgrad
