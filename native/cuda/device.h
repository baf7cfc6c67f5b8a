// What all work on the device goes through: streams, errors, recordings.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "../core/backend.h"
#include "cuda.h"

namespace voxgrad::cuda {

// Beside stream(): where uploads are done, and where fresh memory is cleared. The latter is done from any
// thread, and must not get into what another thread records from stream().
cudaStream_t copyStream();
cudaStream_t setupStream();

// What errors call the work that is given to the device from here on.
void announce(const std::string& work);

// What `commands` puts on stream(), as a graph; null and *why where something of it cannot be recorded.
std::unique_ptr<Recording> record(const std::function<void()>& commands, std::string* why);

}  // namespace voxgrad::cuda
