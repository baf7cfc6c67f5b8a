// Cross-entropy and masked squared error.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable lossKernels = {};

}  // namespace voxgrad::cuda
