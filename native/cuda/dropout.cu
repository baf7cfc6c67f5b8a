// Dropout and Gaussian noise.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable dropoutKernels = {};

}  // namespace voxgrad::cuda
