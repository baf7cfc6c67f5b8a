// Gradients of normalisation.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable normGradientKernels = {};

}  // namespace voxgrad::cuda
