// Softmax and its logarithm.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable softmaxKernels = {};

}  // namespace voxgrad::cuda
