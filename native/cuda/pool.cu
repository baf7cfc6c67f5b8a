// Pooling.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable poolKernels = {};

}  // namespace voxgrad::cuda
