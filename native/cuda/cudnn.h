// NVIDIA's cuDNN 9 where a machine has it, opened at run time. The part of its C interface that is used is
// declared here, after its reference manual; nothing of it is needed to build.
#pragma once

#include <cstddef>
#include <string>

#include "cuda.h"

namespace voxgrad::cuda::cudnn {

using Status = int;
constexpr Status success = 0;
using Handle = struct HandleStruct*;
using TensorDescriptor = struct TensorStruct*;
using FilterDescriptor = struct FilterStruct*;
using ConvolutionDescriptor = struct ConvolutionStruct*;

constexpr int dataFloat = 0;
constexpr int formatNhwc = 1;  // channels innermost, with three axes of space too
enum Mode : int { convolution = 0, crossCorrelation = 1 };
// Tensor cores with TF32, or products of float32 alone.
constexpr int defaultMath = 0, fmaMath = 3;
// Of those that give the same bits every time.
constexpr int forwardPrecomputedGemm = 1, backwardFilter1 = 1;

// The functions, each cudnnNAME of the library.
struct Library {
  size_t (*GetVersion)();
  const char* (*GetErrorString)(Status);
  Status (*Create)(Handle*);
  Status (*SetStream)(Handle, cudaStream_t);
  Status (*CreateTensorDescriptor)(TensorDescriptor*);
  Status (*DestroyTensorDescriptor)(TensorDescriptor);
  Status (*SetTensorNdDescriptorEx)(TensorDescriptor, int format, int type, int axes, const int* extents);
  Status (*CreateFilterDescriptor)(FilterDescriptor*);
  Status (*DestroyFilterDescriptor)(FilterDescriptor);
  Status (*SetFilterNdDescriptor)(FilterDescriptor, int type, int format, int axes, const int* extents);
  Status (*CreateConvolutionDescriptor)(ConvolutionDescriptor*);
  Status (*DestroyConvolutionDescriptor)(ConvolutionDescriptor);
  Status (*SetConvolutionNdDescriptor)(ConvolutionDescriptor, int axes, const int* pad, const int* stride,
                                       const int* dilation, int mode, int type);
  Status (*SetConvolutionGroupCount)(ConvolutionDescriptor, int groups);
  Status (*SetConvolutionMathType)(ConvolutionDescriptor, int math);
  Status (*GetConvolutionForwardWorkspaceSize)(Handle, TensorDescriptor x, FilterDescriptor w,
                                               ConvolutionDescriptor, TensorDescriptor y, int algorithm,
                                               size_t* bytes);
  Status (*ConvolutionForward)(Handle, const void* alpha, TensorDescriptor, const void* x, FilterDescriptor,
                               const void* w, ConvolutionDescriptor, int algorithm, void* workspace,
                               size_t bytes, const void* beta, TensorDescriptor, void* y);
  Status (*GetConvolutionBackwardFilterWorkspaceSize)(Handle, TensorDescriptor x, TensorDescriptor dy,
                                                      ConvolutionDescriptor, FilterDescriptor dw,
                                                      int algorithm, size_t* bytes);
  Status (*ConvolutionBackwardFilter)(Handle, const void* alpha, TensorDescriptor, const void* x,
                                      TensorDescriptor, const void* dy, ConvolutionDescriptor, int algorithm,
                                      void* workspace, size_t bytes, const void* beta, FilterDescriptor,
                                      void* dw);
};

// Null where cuDNN is not used. VOXGRAD_CUDNN is the library or its folder, or `off`; otherwise the system's
// loader looks for libcudnn.so.9. Versions before 9.15 are refused: some gave wrong 3-D convolutions.
const Library* library();
// `cuDNN 9.15.1`, or why there is none.
const std::string& describe();

}  // namespace voxgrad::cuda::cudnn
