// Softmax and the losses on it in one pass over the logits, and their gradient in another over what the first
// one leaves; compiled once per instruction set. Plain data only.
#pragma once

#include <stdint.h>

namespace voxgrad {
namespace cpu {

// The sums of C classes are C + 2 rows of three: for each class the sums of p g, of p or p^2, and of g; then
// the negative log-likelihood and the number of voxels that count; then the squared error and the number of
// voxels that count and are masked.
constexpr int64_t fusedLossSums(int64_t channels) { return 3 * (channels + 2); }

// `rows` voxels of one sample.
struct FusedLossRows {
  const float* logits;    // [rows, channels]
  const uint8_t* labels;  // [rows]; a voxel whose label is no class does not count
  const uint8_t* mask;    // [rows] or null
  const float* slopes;    // of the sums: what the gradient is made of
  float* gradient;        // [rows, channels], which may be the logits; null where only sums are wanted
  double* sums;
  int64_t rows;
  int channels;
  int first;     // the first class that has sums of its own and an error; 0 or 1
  bool squared;  // p^2 instead of p
};

struct FusedLossKernels {
  // Writes the sums, those of classes before `first` being 0, and what the gradient is made of in its place.
  void (*sums)(const FusedLossRows& part);
  // Makes of that, and of the slopes, the gradient with respect to the logits, which it does not read.
  void (*gradient)(const FusedLossRows& part);
};

}  // namespace cpu
}  // namespace voxgrad
