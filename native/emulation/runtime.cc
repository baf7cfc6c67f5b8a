#include "runtime.h"

#include <cstdlib>
#include <cstring>

#include "stream.h"

using emulation::capture;
using emulation::failure;
using emulation::state;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return state().error == error ? state().why.c_str() : "invalid argument";
  }
}

cudaError_t cudaGetLastError() { return failure(); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulation::capability();
  return failure();
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (capture != nullptr) return emulation::spoilCapture();
  if (failure() != cudaSuccess) return failure();
  const char* most = std::getenv("VOXGRAD_EMULATOR_MEMORY");
  std::lock_guard<std::mutex> lock(state().mutex);
  if (most != nullptr && state().bytes + bytes > std::strtoull(most, nullptr, 10))
    return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  state().allocated[*data] = bytes;
  state().bytes += bytes;
  return cudaSuccess;
}

// As a device does, waits until nobody can be using the memory.
cudaError_t cudaFree(void* data) {
  if (capture != nullptr) return emulation::spoilCapture();
  std::vector<emulation::Stream*> streams;
  {
    std::lock_guard<std::mutex> lock(state().mutex);
    streams = state().streams;
  }
  for (emulation::Stream* stream : streams) stream->drain(stream->pushed());
  std::lock_guard<std::mutex> lock(state().mutex);
  const auto found = state().allocated.find(data);
  if (found != state().allocated.end()) {
    state().bytes -= found->second;
    state().allocated.erase(found);
  }
  std::free(data);
  return state().error;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  if (capture != nullptr) return emulation::spoilCapture();
  if (failure() != cudaSuccess) return failure();
  *data = std::malloc(bytes);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::lock_guard<std::mutex> lock(state().mutex);
  state().pinned[static_cast<char*>(*data)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  if (capture != nullptr) return emulation::spoilCapture();
  std::lock_guard<std::mutex> lock(state().mutex);
  state().pinned.erase(static_cast<char*>(data));
  std::free(data);
  return state().error;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (failure() != cudaSuccess) return failure();
  const bool upload = kind == cudaMemcpyHostToDevice, download = kind == cudaMemcpyDeviceToHost;
  const bool pageable = (upload && !emulation::isPinned(from)) || (download && !emulation::isPinned(to));
  if (pageable && capture != nullptr && capture->stream == stream) return emulation::spoilCapture();
  if (pageable && upload && stream != nullptr) {
    const auto* first = static_cast<const uint8_t*>(from);
    stream->push([to, data = std::vector<uint8_t>(first, first + bytes)] {
      if (!data.empty()) std::memcpy(to, data.data(), data.size());
    });
    return cudaSuccess;
  }
  const auto copy = [=] { std::memcpy(to, from, bytes); };
  if (stream == nullptr) {
    copy();
    return cudaSuccess;
  }
  stream->push(copy);
  const char* schedule = std::getenv("VOXGRAD_SCHEDULE");
  const bool early = upload && schedule != nullptr && std::strcmp(schedule, "1") == 0;
  if ((pageable || early) && capture == nullptr) stream->drain(stream->pushed());
  return failure();
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  if (failure() != cudaSuccess) return failure();
  const auto fill = [=] { std::memset(to, byte, bytes); };
  if (stream == nullptr)
    fill();
  else
    stream->push(fill);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (failure() != cudaSuccess) return failure();
  *stream = new emulation::Stream;
  std::lock_guard<std::mutex> lock(state().mutex);
  state().streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (capture != nullptr) return emulation::spoilCapture();
  if (stream != nullptr) stream->drain(stream->pushed());
  return failure();
}

// Nobody who asks may rely on the answer "ready".
cudaError_t cudaStreamQuery(cudaStream_t) {
  if (capture != nullptr) return emulation::spoilCapture();
  return failure() != cudaSuccess ? failure() : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (failure() != cudaSuccess) return failure();
  if (event->stream != nullptr) stream->push([before = *event] { before.stream->drain(before.work); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (failure() != cudaSuccess) return failure();
  *event = new emulation::Event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (capture != nullptr && capture->stream == stream) return emulation::spoilCapture();
  *event = {stream, stream->pushed()};
  return failure();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (capture != nullptr) return emulation::spoilCapture();
  if (event->stream != nullptr) event->stream->drain(event->work);
  return failure();
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return failure();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (failure() != cudaSuccess) return failure();
  if (stream == nullptr || capture != nullptr) return cudaErrorStreamCaptureUnsupported;
  capture.reset(new emulation::Capture{stream, std::make_unique<emulation::Graph>()});
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (capture == nullptr || capture->stream != stream) return cudaErrorInvalidValue;
  const auto ended = std::move(capture);
  if (ended->spoilt) return cudaErrorStreamCaptureInvalidated;
  *graph = ended->graph.release();
  return failure();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new emulation::Graph(*graph);
  return failure();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (failure() != cudaSuccess) return failure();
  for (const emulation::Work& work : executable->work) stream->push(work);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaGraphDestroy(executable); }

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return failure();
}
