// Joining and cutting along an axis.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable shapeKernels = {};

}  // namespace voxgrad::cuda
