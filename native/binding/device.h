// A device as a JavaScript object: its memory, its plans, and what it says about steps.
#pragma once

#include <napi.h>

namespace voxgrad::binding {

// open(path) -> the device whose backend lies in the library at `path`; open() -> the CPU.
Napi::Value openDevice(const Napi::CallbackInfo& info);

}  // namespace voxgrad::binding
