// Trilinear and nearest resizing.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable resizeKernels = {};

}  // namespace voxgrad::cuda
