// Mean and variance of each channel.
#include "cuda.h"
#include "kernels.h"

namespace voxgrad::cuda {

const KernelTable momentsKernels = {};

}  // namespace voxgrad::cuda
