// The device as the addon sees it.
#include <map>
#include <mutex>

#include "../core/backend.h"
#include "../core/kernel_index.h"
#include "cudnn.h"
#include "device.h"
#include "kernels.h"
#include "limits.h"
#include "staging.h"

namespace voxgrad {
namespace cuda {
namespace {

std::mutex launchesMutex;
std::map<std::string, int64_t>& launchCounts() {
  static auto* counts = new std::map<std::string, int64_t>;
  return *counts;
}

const KernelIndex& kernels() {
  static const auto* index = new KernelIndex{&activationKernels,
                                             &argmaxKernels,
                                             &arithmeticKernels,
                                             &asppKernels,
                                             &augmentKernels,
                                             &castKernels,
                                             &convKernels,
                                             &diceKernels,
                                             &dropoutKernels,
                                             &lossKernels,
                                             &momentsKernels,
                                             &normKernels,
                                             &normGradientKernels,
                                             &packedConvKernels,
                                             &poolKernels,
                                             &reduceKernels,
                                             &resizeKernels,
                                             &segmentationKernels,
                                             &segmentationLossesKernels,
                                             &selectKernels,
                                             &sgdKernels,
                                             &shapeKernels,
                                             &softmaxKernels,
                                             &updateKernels,
                                             &weightGradientKernels};
  return *index;
}

#ifdef __CUDACC__
std::string versionText(int cuda) {
  return "CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
}

std::string whyNoDevice(cudaError_t error, int driver) {
  if (error == cudaSuccess) return "there is no NVIDIA GPU";
  if (error != cudaErrorInsufficientDriver) return cudaGetErrorString(error);
  return "the NVIDIA driver is too old: it is for " + versionText(driver) + ", and this was built with " +
         versionText(CUDART_VERSION) + "; install a newer driver, or build with an older CUDA toolkit";
}
#endif

class CudaBackend final : public Backend {
 public:
#ifdef __CUDACC__
  const char* name() const override { return "cuda"; }
  bool hostMemory() const override { return false; }
  std::string describe() const override {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "device properties");
    int driver = 0;
    check(cudaDriverGetVersion(&driver), "driver version");
    return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor) + ", " + std::to_string(properties.totalGlobalMem >> 20) +
           " MiB, " + versionText(driver) + ", " + cudnn::describe();
  }
  size_t freeMemory() const override {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "free memory");
    return free;
  }
#else
  const char* name() const override { return "emulator"; }
  bool hostMemory() const override { return true; }
  std::string describe() const override {
    return "CUDA kernels run by the processor, for tests, " + cudnn::describe();
  }
  size_t freeMemory() const override { return 0; }
#endif

  void* allocate(size_t bytes) override {
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw Error("ERR_OUT_OF_MEMORY", "the device refused " + std::to_string(bytes) + " bytes of memory");
    }
    check(error, "memory");
    check(cudaMemsetAsync(data, 0, bytes, setupStream()), "memory");
    check(cudaStreamSynchronize(setupStream()), "memory");
    return data;
  }
  void release(void* data) override { cudaFree(data); }
  void copyIn(void* device, const void* host, size_t bytes) override { cuda::copyIn(device, host, bytes); }
  void download(const std::vector<Download>& parts) override { cuda::download(parts); }
  std::unique_ptr<Upload> upload(const std::vector<HostBytes>& parts) override { return beginUpload(parts); }
  std::unique_ptr<Recording> record(const std::function<void()>& commands, std::string* why) override {
    return cuda::record(commands, why);
  }
  void announce(const std::string& work) override { cuda::announce(work); }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    check(cudaMemsetAsync(device, byte, bytes, stream()), "fill");
  }
  void finish() override { check(cudaStreamSynchronize(stream()), "kernels"); }

  const Kernel* find(const std::string& name) const override { return kernels().find(name); }
  std::vector<std::string> kernelNames() const override { return kernels().names(); }
  LimitTimes measure(Limit limit, int64_t amount, int64_t runs, const std::atomic<bool>& cancelled) override {
    return limit == Limit::multiplyAdd ? measureMultiplyAdd(*this, amount, runs, cancelled)
                                       : measureCopy(*this, amount, runs, cancelled);
  }
  std::map<std::string, int64_t> launches() const override {
    std::lock_guard<std::mutex> lock(launchesMutex);
    return launchCounts();
  }
};

}  // namespace

void countLaunch(const char* kernel) {
  std::lock_guard<std::mutex> lock(launchesMutex);
  launchCounts()[kernel]++;
}

}  // namespace cuda
}  // namespace voxgrad

extern "C" __attribute__((visibility("default"))) voxgrad::Backend* voxgrad_backend(const char* build,
                                                                                    std::string* why) {
  if (build != voxgrad::backendBuild()) {
    *why = "it was built for another version of the addon";
    return nullptr;
  }
#ifdef __CUDACC__
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    *why = "there is no NVIDIA driver";
    return nullptr;
  }
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    *why = voxgrad::cuda::whyNoDevice(error, driver);
    return nullptr;
  }
#endif
  static auto* backend = new voxgrad::cuda::CudaBackend;
  return backend;
}
