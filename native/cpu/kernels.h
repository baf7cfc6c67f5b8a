// The tables of the CPU kernel families; registry.cc joins them.
#pragma once

#include <initializer_list>

#include "../core/tensor.h"

namespace voxgrad::cpu {

using KernelTable = std::initializer_list<Kernel>;

extern const KernelTable activationKernels;
extern const KernelTable argmaxKernels;
extern const KernelTable arithmeticKernels;
extern const KernelTable asppKernels;
extern const KernelTable augmentKernels;
extern const KernelTable convKernels;
extern const KernelTable copyKernels;
extern const KernelTable diceKernels;
extern const KernelTable dropoutKernels;
extern const KernelTable lossKernels;
extern const KernelTable lossTermKernels;
extern const KernelTable momentsKernels;
extern const KernelTable normGradientKernels;
extern const KernelTable normKernels;
extern const KernelTable normalizedConvKernels;
extern const KernelTable poolKernels;
extern const KernelTable reduceKernels;
extern const KernelTable resizeKernels;
extern const KernelTable segmentationKernels;
extern const KernelTable selectKernels;
extern const KernelTable shapeKernels;
extern const KernelTable softmaxKernels;
extern const KernelTable summedConvKernels;
extern const KernelTable updateKernels;

}  // namespace voxgrad::cpu
