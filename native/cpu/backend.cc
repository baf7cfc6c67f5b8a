// The CPU as a device: the machine's own memory, and the kernels of every family.
#include "../core/backend.h"

#include <cstdlib>
#include <cstring>

#include "../core/kernel_index.h"
#include "isa.h"
#include "kernels.h"
#include "peak.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace voxgrad {
namespace cpu {
namespace {

const KernelIndex& kernels() {
  static const auto* index = new KernelIndex{
      &activationKernels, &argmaxKernels,  &arithmeticKernels,   &asppKernels,    &augmentKernels,
      &convKernels,       &copyKernels,    &diceKernels,         &dropoutKernels, &lossKernels,
      &lossTermKernels,   &momentsKernels, &normGradientKernels, &normKernels,    &normalizedConvKernels,
      &summedConvKernels, &poolKernels,    &reduceKernels,       &resizeKernels,  &segmentationKernels,
      &selectKernels,     &shapeKernels,   &softmaxKernels,      &updateKernels};
  return *index;
}

class CpuUpload final : public Upload {
 public:
  explicit CpuUpload(const std::vector<HostBytes>& parts) : Upload(parts) {
    for (const HostBytes& part : parts) {
      const auto* first = static_cast<const uint8_t*>(part.data);
      parts_.emplace_back(first, first + part.bytes);
    }
  }
  void deliver(size_t part, void* device) override {
    if (!parts_[part].empty()) std::memcpy(device, parts_[part].data(), parts_[part].size());
  }

 private:
  std::vector<std::vector<uint8_t>> parts_;
};

class CpuBackend final : public Backend {
 public:
  const char* name() const override { return "cpu"; }
  std::string describe() const override { return isaName(); }
  size_t freeMemory() const override { return 0; }
  bool hostMemory() const override { return true; }

  void* allocate(size_t bytes) override {
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* data = rounded < bytes ? nullptr : std::aligned_alloc(alignment, rounded ? rounded : alignment);
    if (data == nullptr)
      throw Error("ERR_OUT_OF_MEMORY", "the system refused " + std::to_string(bytes) + " bytes of memory");
#ifdef MADV_HUGEPAGE
    // Activations are streamed through: huge pages spare most of the address translation.
    constexpr uintptr_t page = 4096;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) & ~(page - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + rounded) & ~(page - 1);
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
    std::memset(data, 0, bytes);
    return data;
  }
  void release(void* data) override { std::free(data); }
  void copyIn(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(const std::vector<Download>& parts) override {
    for (const Download& part : parts) std::memcpy(part.host, part.device, part.bytes);
  }
  std::unique_ptr<Upload> upload(const std::vector<HostBytes>& parts) override {
    return std::make_unique<CpuUpload>(parts);
  }
  void fill(void* device, uint8_t byte, size_t bytes) override { std::memset(device, byte, bytes); }
  void finish() override {}

  const Kernel* find(const std::string& name) const override { return kernels().find(name); }
  std::vector<std::string> kernelNames() const override { return kernels().names(); }
  LimitTimes measure(Limit limit, int64_t amount, int64_t runs, const std::atomic<bool>& cancelled) override {
    return limit == Limit::multiplyAdd ? measureMultiplyAdd(amount, runs, cancelled)
                                       : measureCopy(amount, limit == Limit::stream, runs, cancelled);
  }
};

}  // namespace
}  // namespace cpu

Backend& cpuBackend() {
  static auto* backend = new cpu::CpuBackend;
  return *backend;
}

}  // namespace voxgrad
