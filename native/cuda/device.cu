#include <mutex>

#include "device.h"

namespace voxgrad::cuda {
namespace {

// What has become of the device. An error that stays makes it useless to the process: the first one says why.
struct Health {
  std::mutex mutex;
  std::string work = "the device";
  std::string cause;
};

Health& health() {
  static auto* health = new Health;
  return *health;
}

thread_local bool recording = false;

cudaStream_t makeStream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "a stream");
  return made;
}

class CudaRecording final : public Recording {
 public:
  explicit CudaRecording(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaRecording() override { cudaGraphExecDestroy(graph_); }
  void replay() override { check(cudaGraphLaunch(graph_, stream()), "launch"); }

 private:
  cudaGraphExec_t graph_;
};

// Ends what was begun on stream(); null where it was spoilt.
cudaGraph_t endCapture(std::string* why) {
  cudaGraph_t graph = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream(), &graph);
  if (error == cudaSuccess) return graph;
  cudaGetLastError();
  *why = cudaGetErrorString(error);
  return nullptr;
}

}  // namespace

cudaStream_t stream() {
  static const cudaStream_t made = makeStream();
  return made;
}

cudaStream_t copyStream() {
  static const cudaStream_t made = makeStream();
  return made;
}

cudaStream_t setupStream() {
  static const cudaStream_t made = makeStream();
  return made;
}

void announce(const std::string& work) {
  std::lock_guard<std::mutex> lock(health().mutex);
  health().work = work;
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::lock_guard<std::mutex> lock(health().mutex);
  std::string& cause = health().cause;
  if (!cause.empty()) throw Error("ERR_DEVICE", "the device cannot be used any more: " + cause);
  const std::string text = health().work + ": " + what + ": " + cudaGetErrorString(error);
  cudaGetLastError();
  if (recording) throw Error("ERR_DEVICE", text);
  // An error that is not forgotten by now stays.
  const cudaError_t left = cudaStreamQuery(nullptr);
  if (left == cudaSuccess || left == cudaErrorNotReady) throw Error("ERR_DEVICE", text);
  cause = text;
  throw Error("ERR_DEVICE", text +
                                "; the device cannot be used any more in this process, the CPU can "
                                "(CUDA_LAUNCH_BLOCKING=1 names the kernel)");
}

std::unique_ptr<Recording> record(const std::function<void()>& commands, std::string* why) {
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "recording");
  recording = true;
  cudaGraph_t graph = nullptr;
  try {
    commands();
    recording = false;
    graph = endCapture(why);
  } catch (const std::exception& error) {
    // Of the device or of a library: what stays wrong shows again where the steps are run one by one.
    recording = false;
    std::string spoilt;
    if (cudaGraph_t part = endCapture(&spoilt)) cudaGraphDestroy(part);
    *why = error.what();
  }
  if (graph == nullptr) return nullptr;
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  if (error == cudaSuccess) return std::make_unique<CudaRecording>(executable);
  cudaGetLastError();
  *why = cudaGetErrorString(error);
  return nullptr;
}

}  // namespace voxgrad::cuda
