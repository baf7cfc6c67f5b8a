// Choices and comparisons.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable selectKernels = {};

}  // namespace voxgrad::cuda
