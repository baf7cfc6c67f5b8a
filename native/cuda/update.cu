// Optimizer steps and moving averages.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable updateKernels = {};

}  // namespace voxgrad::cuda
