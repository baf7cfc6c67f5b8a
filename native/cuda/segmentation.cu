// Fused segmentation and pseudo-label losses.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable segmentationKernels = {};

}  // namespace voxgrad::cuda
