// Mistakes in the use of streams that the emulation must show, beside the same without: planted_streams MISTAKE
// prints `right`, `wrong`, or the error.
#include <cstdio>
#include <string>

#include "../../native/cuda/cuda.h"

namespace {
cudaStream_t working = nullptr;
}

namespace voxgrad::cuda {
cudaStream_t stream() { return working; }
void check(cudaError_t error, const char*) {
  if (error != cudaSuccess) throw Error("ERR_DEVICE", cudaGetErrorString(error));
}
void countLaunch(const char*) {}
}  // namespace voxgrad::cuda

using namespace voxgrad::cuda;

struct Double {
  const float* x;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = 2 * x[i]; }
};

static float* deviceFloats() {
  void* data = nullptr;
  check(cudaMalloc(&data, sizeof(float)), "memory");
  check(cudaMemsetAsync(data, 0, sizeof(float), nullptr), "memory");
  return static_cast<float*>(data);
}

static float* pinnedFloats() {
  void* data = nullptr;
  check(cudaMallocHost(&data, sizeof(float)), "memory");
  return static_cast<float*>(data);
}

// Brings 1 and then 2 through the same memory to the device by a stream of its own, and doubles both.
static bool uploads(const std::string& mistake) {
  cudaStream_t copying = nullptr;
  cudaEvent_t arrived = nullptr, used = nullptr;
  check(cudaStreamCreateWithFlags(&copying, cudaStreamNonBlocking), "stream");
  check(cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming), "event");
  check(cudaEventCreateWithFlags(&used, cudaEventDisableTiming), "event");
  float *x = deviceFloats(), *y[2] = {deviceFloats(), deviceFloats()};
  float *from = pinnedFloats(), *to = pinnedFloats();
  bool right = true;
  for (int i = 0; i < 2; i++) {
    if (mistake != "overwritten") check(cudaEventSynchronize(arrived), "wait");
    *from = static_cast<float>(i + 1);
    if (mistake != "early-copy") check(cudaStreamWaitEvent(copying, used, 0), "wait");
    check(cudaMemcpyAsync(x, from, sizeof(float), cudaMemcpyHostToDevice, copying), "copy");
    check(cudaEventRecord(arrived, copying), "event");
    if (mistake != "late-copy") check(cudaStreamWaitEvent(working, arrived, 0), "wait");
    forEach("double", 1, Double{x, y[i]});
    check(cudaEventRecord(used, working), "event");
  }
  for (int i = 0; i < 2; i++) {
    check(cudaMemcpyAsync(to, y[i], sizeof(float), cudaMemcpyDeviceToHost, working), "copy");
    if (mistake != "no-wait") check(cudaStreamSynchronize(working), "wait");
    right = right && *to == static_cast<float>(2 * i + 2);
  }
  return right;
}

// Records a doubling and replays it for two inputs.
static bool records(const std::string& mistake) {
  float *x = deviceFloats(), *y = deviceFloats(), *to = pinnedFloats(), *from = pinnedFloats();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(working, cudaStreamCaptureModeThreadLocal), "capture");
  void* more = nullptr;
  if (mistake == "allocating") cudaMalloc(&more, 4);
  if (mistake == "waiting") cudaStreamSynchronize(working);
  float pageable = 0;
  if (mistake == "pageable") cudaMemcpyAsync(&pageable, y, sizeof(float), cudaMemcpyDeviceToHost, working);
  forEach("double", 1, Double{x, y});
  check(cudaStreamEndCapture(working, &graph), "capture");
  check(cudaGraphInstantiate(&executable, graph, 0), "capture");
  bool right = true;
  for (int i = 1; i <= 2; i++) {
    *from = static_cast<float>(i);
    check(cudaMemcpyAsync(x, from, sizeof(float), cudaMemcpyHostToDevice, working), "copy");
    if (mistake != "not-launched") check(cudaGraphLaunch(executable, working), "launch");
    check(cudaMemcpyAsync(to, y, sizeof(float), cudaMemcpyDeviceToHost, working), "copy");
    check(cudaStreamSynchronize(working), "wait");
    right = right && *to == static_cast<float>(2 * i);
  }
  return right;
}

int main(int, char** arguments) {
  const std::string mistake = arguments[2];
  try {
    check(cudaStreamCreateWithFlags(&working, cudaStreamNonBlocking), "stream");
    if (mistake == "grid")
      LAUNCH(forEachKernel<Double>, (Grid{dim3(1, 1, 65536), 32}), int64_t{0}, Double{});
    if (mistake == "shared") LAUNCH(forEachKernel<Double>, (Grid{1, 32, 100 << 10}), int64_t{0}, Double{});
    const bool right = std::string(arguments[1]) == "uploads" ? uploads(mistake) : records(mistake);
    std::puts(right ? "right" : "wrong");
  } catch (const voxgrad::Error& error) {
    std::puts(error.what());
  }
}
