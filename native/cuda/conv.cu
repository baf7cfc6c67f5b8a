// Convolutions: the steps of a plan, decoded and handed to the kernels.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable convKernels = {};

}  // namespace voxgrad::cuda
