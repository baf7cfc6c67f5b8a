// NVIDIA's cuDNN 9 where a machine has it, opened at run time. The part of its C interface that is used, its
// backend of operation graphs, is declared here, after its reference manual; nothing of it is needed to
// build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda.h"

namespace voxgrad::cuda::cudnn {

using Status = int;
constexpr Status success = 0;
using Handle = struct HandleStruct*;
using BackendDescriptor = struct BackendStruct*;

// The functions, each cudnnNAME of the library.
struct Library {
  size_t (*GetVersion)();
  const char* (*GetErrorString)(Status);
  Status (*Create)(Handle*);
  Status (*SetStream)(Handle, cudaStream_t);
  Status (*BackendCreateDescriptor)(int kind, BackendDescriptor*);
  Status (*BackendDestroyDescriptor)(BackendDescriptor);
  Status (*BackendSetAttribute)(BackendDescriptor, int name, int type, int64_t count, const void* values);
  Status (*BackendGetAttribute)(BackendDescriptor, int name, int type, int64_t room, int64_t* count,
                                void* values);
  Status (*BackendFinalize)(BackendDescriptor);
  Status (*BackendExecute)(Handle, BackendDescriptor plan, BackendDescriptor variantPack);
};

// Null where cuDNN is not used. VOXGRAD_CUDNN is the library or its folder, or `off`; otherwise the system's
// loader looks for libcudnn.so.9. Versions before 9.15 are refused: some gave wrong 3-D convolutions.
const Library* library();
// `cuDNN 9.15.1`, or why there is none.
const std::string& describe();

}  // namespace voxgrad::cuda::cudnn
