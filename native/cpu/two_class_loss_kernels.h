// fused_loss_kernels.h for two classes, whose softmax is a function of one difference of logits. Like simd.h,
// for sources compiled once per instruction set.
#pragma once

#include "fused_loss_kernels.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {

void twoClassLossSums(const FusedLossRows& part);
void twoClassLossGradient(const FusedLossRows& part);

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
