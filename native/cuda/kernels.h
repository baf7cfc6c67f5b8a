// The tables of the CUDA kernel families; backend.cu joins them.
#pragma once

#include <initializer_list>

#include "../core/tensor.h"

namespace voxgrad::cuda {

using KernelTable = std::initializer_list<Kernel>;

// A kernel of an op whose CPU kernel says which steps are safe.
inline Kernel kernel(const char* name, void (*run)(const Step&), size_t (*workspace)(const Step&) = nullptr) {
  Kernel entry{name, nullptr, run};
  entry.workspace = workspace;
  return entry;
}

// The same for a kernel of tensors that may be bf16: see Kernel::narrow.
inline Kernel narrowable(Kernel kernel, uint32_t tensors) {
  kernel.narrow = tensors;
  return kernel;
}

extern const KernelTable activationKernels;
extern const KernelTable argmaxKernels;
extern const KernelTable arithmeticKernels;
extern const KernelTable asppKernels;
extern const KernelTable augmentKernels;
extern const KernelTable castKernels;
extern const KernelTable convKernels;
extern const KernelTable diceKernels;
extern const KernelTable dropoutKernels;
extern const KernelTable lossKernels;
extern const KernelTable momentsKernels;
extern const KernelTable normKernels;
extern const KernelTable normGradientKernels;
extern const KernelTable packedConvKernels;
extern const KernelTable poolKernels;
extern const KernelTable reduceKernels;
extern const KernelTable resizeKernels;
extern const KernelTable segmentationKernels;
extern const KernelTable segmentationLossesKernels;
extern const KernelTable selectKernels;
extern const KernelTable sgdKernels;
extern const KernelTable shapeKernels;
extern const KernelTable softmaxKernels;
extern const KernelTable updateKernels;
extern const KernelTable weightGradientKernels;

}  // namespace voxgrad::cuda
