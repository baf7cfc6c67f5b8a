// Classes of the largest logit, comparisons and one-hot codes.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable argmaxKernels = {};

}  // namespace voxgrad::cuda
