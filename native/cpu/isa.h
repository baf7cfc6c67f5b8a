// The instruction-set level of this process and the kernels compiled for it.
#pragma once

#include "conv3d_kernels.h"
#include "fused_loss_kernels.h"
#include "peak_kernels.h"
#include "softmax_kernels.h"
#include "winograd_kernels.h"

namespace voxgrad::cpu {

// The kernels of the best instruction set this machine has: AVX-512 (F, BW, DQ, VL), AVX2 with
// FMA, or portable. VOXGRAD_ISA=avx512|avx2|portable asks for one; a level the machine lacks, or an unknown
// name, throws Error at the first call. Chosen once per process.
const Conv3dKernels& conv3dKernels();
const FusedLossKernels& fusedLossKernels();
const SoftmaxRowKernels& softmaxRowKernels();
const WinogradKernels& winogradKernels();

// The measuring loops of that instruction set.
const PeakKernels& peakKernels();

// "avx512", "avx2" or "portable": the level that was chosen.
const char* isaName();

}  // namespace voxgrad::cpu
