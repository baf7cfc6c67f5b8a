// Dice from sums over voxels.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable diceKernels = {};

}  // namespace voxgrad::cuda
