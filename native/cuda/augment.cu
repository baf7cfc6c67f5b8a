// Random flips and rotations.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable augmentKernels = {};

}  // namespace voxgrad::cuda
