// Copies between the machine's memory and the device's, through memory that the device reaches by itself.
#pragma once

#include <memory>
#include <vector>

#include "../core/backend.h"

namespace voxgrad::cuda {

// Brings data to the device on the copy stream, while kernels run. From any thread.
std::unique_ptr<Upload> beginUpload(const std::vector<HostBytes>& parts);

// On stream(), from the device's thread. The data to copy in is taken at the call.
void copyIn(void* device, const void* host, size_t bytes);
void download(const std::vector<Download>& parts);

}  // namespace voxgrad::cuda
