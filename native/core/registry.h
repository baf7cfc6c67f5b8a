// The CPU kernels by name. Each family lists its kernels in one table; there is no registration at load time.
#pragma once

#include <string>
#include <vector>

#include "tensor.h"

namespace voxgrad {

// Null when the CPU backend has no kernel of that name.
const Kernel* findKernel(const std::string& name);
std::vector<std::string> kernelNames();

}  // namespace voxgrad
