// The instruction-set level of this process and the kernels compiled for it.
#pragma once

#include "amx_kernels.h"
#include "conv3d_kernels.h"
#include "conv3d_weight_gradient_kernels.h"
#include "dense_kernels.h"
#include "dense_sum_kernels.h"
#include "depthwise_kernels.h"
#include "few_voxels_kernels.h"
#include "fused_loss_kernels.h"
#include "peak_kernels.h"
#include "planar_kernels.h"
#include "softmax_kernels.h"
#include "stem_kernels.h"
#include "sum_kernels.h"
#include "thin_kernels.h"
#include "thin_taps_kernels.h"
#include "winograd2d_kernels.h"
#include "winograd_row_kernels.h"

// Every table of kernels that is compiled once per instruction set, and the function that returns it: in the
// namespace of the instruction set its own, in voxgrad::cpu that of this process.
// clang-format off
#define VOXGRAD_KERNEL_TABLES(table)                  \
  table(Conv3dKernels, conv3dKernels)                 \
  table(WeightGradientKernels, weightGradientKernels) \
  table(WinogradKernels, winogradKernels)             \
  table(Winograd2dTable, winograd2dTable)             \
  table(WinogradRowKernels, winogradRowKernels)       \
  table(DenseKernels, denseKernels)                   \
  table(DenseSumKernels, denseSumKernels)             \
  table(DepthwiseKernels, depthwiseKernels)           \
  table(FewVoxelsKernels, fewVoxelsKernels)           \
  table(StemKernels, stemKernels)                     \
  table(SumKernels, sumKernels)                       \
  table(ThinKernels, thinKernels)                     \
  table(ThinTapsKernels, thinTapsKernels)             \
  table(PlanarKernels, planarKernels)                 \
  table(FusedLossKernels, fusedLossKernels)           \
  table(SoftmaxRowKernels, softmaxRowKernels)         \
  table(PeakKernels, peakKernels)                     \
  table(AmxKernels, amxKernels)
// clang-format on

namespace voxgrad::cpu {

// The kernels of the best instruction set this machine has: AVX-512 (F, BW, DQ, VL) with the matrix unit
// (AMX, bfloat16), AVX-512, AVX2 with FMA, or portable. VOXGRAD_ISA=amx|avx512|avx2|portable asks for one; a
// level the machine lacks, or an unknown name, throws Error at the first call. Chosen once per process.
#define VOXGRAD_DECLARE_TABLE(Type, name) const Type& name();
VOXGRAD_KERNEL_TABLES(VOXGRAD_DECLARE_TABLE)

// "amx", "avx512", "avx2" or "portable": the level that was chosen.
const char* isaName();

// Whether it is "amx": amxKernels() may be called.
bool usesAmx();

}  // namespace voxgrad::cpu
