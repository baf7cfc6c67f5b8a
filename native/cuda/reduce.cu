// Sums over all axes but the channels, and their transpose.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable reduceKernels = {};

}  // namespace voxgrad::cuda
