// The part of CUDA's runtime that we call: memory, streams, events, graphs. The machine's memory stands for
// the device's.
//
// A stream does nothing by itself. What is put on it is done when somebody waits for it, so a wait that is
// missing shows; with VOXGRAD_SCHEDULE=1 copies from the host are done as early as they may, so that data
// which is written over too early shows. What is put on the null stream is done at once.
//
// VOXGRAD_EMULATOR_MEMORY is how many bytes cudaMalloc has to give. VOXGRAD_EMULATOR_FAULT=NAME:N makes the
// N-th launch of that kernel fail as an illegal access would: from then on, every call returns that error.
// VOXGRAD_EMULATOR_GRID is how many blocks a grid may have along y and z, 65535 where it is not set.
// VOXGRAD_EMULATOR_UNRECORDABLE=NAME makes that kernel or library one that no capture takes.
// VOXGRAD_EMULATOR_CAPABILITY is the major number of the compute capability, 9 where it is not set; with 8, a
// block has the shared memory of 8.9.
// VOXGRAD_EMULATOR_COOPERATIVE is how many blocks a cooperative launch may have, 3 where it is not set; with
// 0 there are no such launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "block.h"

namespace emulation {

class Stream;
struct Event;
struct Graph;

// Puts what a library of that name would do on a stream.
int enqueue(Stream* stream, const char* name, std::function<void()> work);

// Puts a kernel on a stream; the blocks of a cooperative one may wait for each other.
int launchOn(Stream* stream, const char* name, Extent grid, Extent threads, size_t sharedBytes,
             std::function<void()> kernel, bool cooperative = false);

// Blocks that a cooperative launch may have: few, so that they take several turns.
int cooperativeBlocks();

}  // namespace emulation

using cudaError_t = int;
using cudaStream_t = emulation::Stream*;
using cudaEvent_t = emulation::Event*;
using cudaGraph_t = emulation::Graph*;
using cudaGraphExec_t = emulation::Graph*;

constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInvalidValue = 1;
constexpr cudaError_t cudaErrorMemoryAllocation = 2;
constexpr cudaError_t cudaErrorInvalidConfiguration = 9;
constexpr cudaError_t cudaErrorNotReady = 600;
constexpr cudaError_t cudaErrorIllegalAddress = 700;
constexpr cudaError_t cudaErrorLaunchFailure = 719;
constexpr cudaError_t cudaErrorCooperativeLaunchTooLarge = 720;
constexpr cudaError_t cudaErrorStreamCaptureUnsupported = 900;
constexpr cudaError_t cudaErrorStreamCaptureInvalidated = 901;
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75 };
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDisableTiming = 2;

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

// During a capture by the same thread these four, and every wait, are errors that spoil it.
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
