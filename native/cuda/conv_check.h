// What the kernels of convolutions ask of a step.
#pragma once

#include "../core/conv_step.h"

namespace voxgrad::cuda {

inline void checkBlocks(const Step& step, int64_t blocks) {
  if (blocks >= int64_t{1} << 31) refuse(step, "it takes more than 2^31 blocks of threads");
}

// What a kernel reads has the type of its precision.
inline void checkStorage(const Step& step, const Tensor& tensor) {
  const bool narrow = precisionOf(step) == Precision::bf16;
  expectDType(step, tensor, narrow ? DType::bf16 : DType::f32);
}

// A result may be float32 in every precision.
inline void checkResult(const Step& step) {
  if (step.output.dtype != DType::f32) checkStorage(step, step.output);
}

}  // namespace voxgrad::cuda
