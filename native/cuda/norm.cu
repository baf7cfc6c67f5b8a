// Normalisation from moments.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable normKernels = {};

}  // namespace voxgrad::cuda
