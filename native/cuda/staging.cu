#include <algorithm>
#include <cstring>
#include <mutex>

#include "device.h"
#include "staging.h"

namespace voxgrad::cuda {
namespace {

cudaEvent_t makeEvent() {
  cudaEvent_t made = nullptr;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "an event");
  return made;
}

void* allocatePinned(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("ERR_OUT_OF_MEMORY",
                "the system refused " + std::to_string(bytes) + " bytes of memory that the device reads");
  }
  check(error, "pinned memory");
  return data;
}

// Memory for the data of one upload, on both sides.
struct Buffer {
  size_t bytes = 0;
  char* pinned = nullptr;
  char* device = nullptr;  // null where the device had none to give
  cudaEvent_t arrived;     // the pinned side may be written again
  cudaEvent_t used;        // the device's side may be written again

  explicit Buffer(size_t bytes)
      : bytes(bytes),
        pinned(static_cast<char*>(allocatePinned(bytes))),
        arrived(makeEvent()),
        used(makeEvent()) {
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, bytes);
    if (error != cudaErrorMemoryAllocation) check(error, "memory for uploads");
    cudaGetLastError();
    device = static_cast<char*>(data);
  }
  ~Buffer() {
    cudaEventSynchronize(arrived);
    cudaFree(device);
    cudaFreeHost(pinned);
    cudaEventDestroy(arrived);
    cudaEventDestroy(used);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

// Buffers that nobody uses: taking one is much faster than making it.
class Pool {
 public:
  std::unique_ptr<Buffer> take(size_t bytes) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (auto each = free_.begin(); each != free_.end(); ++each)
        if ((*each)->bytes >= bytes && (*each)->bytes / 2 <= bytes) {
          auto found = std::move(*each);
          free_.erase(each);
          return found;
        }
    }
    return std::make_unique<Buffer>(bytes);
  }
  void give(std::unique_ptr<Buffer> buffer) {
    constexpr size_t most = 6;
    std::unique_ptr<Buffer> oldest;
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(buffer));
    if (free_.size() <= most) return;
    oldest = std::move(free_.front());
    free_.erase(free_.begin());
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Buffer>> free_;
};

Pool& pool() {
  static auto* pool = new Pool;
  return *pool;
}

class CudaUpload final : public Upload {
 public:
  explicit CudaUpload(const std::vector<HostBytes>& parts) : Upload(parts) {
    size_t bytes = 0;
    for (const HostBytes& part : parts) {
      offsets_.push_back(bytes);
      bytes += (part.bytes + Backend::alignment - 1) / Backend::alignment * Backend::alignment;
    }
    if (bytes == 0) return;
    buffer_ = pool().take(bytes);
    Buffer& to = *buffer_;
    check(cudaEventSynchronize(to.arrived), "an upload");
    for (size_t i = 0; i < parts.size(); i++)
      if (parts[i].bytes > 0) std::memcpy(to.pinned + offsets_[i], parts[i].data, parts[i].bytes);
    if (to.device == nullptr) return;
    check(cudaStreamWaitEvent(copyStream(), to.used, 0), "an upload");
    check(cudaMemcpyAsync(to.device, to.pinned, bytes, cudaMemcpyHostToDevice, copyStream()), "an upload");
    check(cudaEventRecord(to.arrived, copyStream()), "an upload");
  }
  ~CudaUpload() override {
    if (buffer_ != nullptr) pool().give(std::move(buffer_));
  }

  void deliver(size_t part, void* device) override {
    if (sizes()[part] == 0) return;
    Buffer& from = *buffer_;
    if (from.device == nullptr) {
      check(cudaMemcpyAsync(device, from.pinned + offsets_[part], sizes()[part], cudaMemcpyHostToDevice,
                            stream()),
            "an input");
      check(cudaEventRecord(from.arrived, stream()), "an input");
      return;
    }
    check(cudaStreamWaitEvent(stream(), from.arrived, 0), "an input");
    check(cudaMemcpyAsync(device, from.device + offsets_[part], sizes()[part], cudaMemcpyDeviceToDevice,
                          stream()),
          "an input");
    check(cudaEventRecord(from.used, stream()), "an input");
  }

 private:
  std::vector<size_t> offsets_;
  std::unique_ptr<Buffer> buffer_;
};

// Two pieces of pinned memory that copies of any size take turns with.
class Bounce {
 public:
  void in(char* device, const char* host, size_t bytes) {
    for (size_t done = 0; done < bytes; done += chunk) {
      const size_t count = std::min(chunk, bytes - done);
      Half& half = next();
      std::memcpy(half.pinned, host + done, count);
      check(cudaMemcpyAsync(device + done, half.pinned, count, cudaMemcpyHostToDevice, stream()),
            "copy to the device");
      check(cudaEventRecord(half.done, stream()), "copy to the device");
    }
  }

  void out(const std::vector<Download>& parts) {
    try {
      copyOut(parts);
    } catch (...) {
      for (Half& half : halves_) half.unread.clear();
      throw;
    }
  }

 private:
  static constexpr size_t chunk = 4 << 20;

  struct Half {
    char* pinned = static_cast<char*>(allocatePinned(chunk));
    cudaEvent_t done = makeEvent();
    std::vector<Download> unread;  // copies on their way, with where they land as `device`
  };

  void copyOut(const std::vector<Download>& parts) {
    Half* half = &next();
    size_t filled = 0;
    const auto turn = [&] {
      check(cudaEventRecord(half->done, stream()), "copy from the device");
      half = &next();
      filled = 0;
    };
    for (const Download& part : parts)
      for (size_t done = 0; done < part.bytes;) {
        if (filled == chunk) turn();
        const size_t count = std::min(chunk - filled, part.bytes - done);
        check(cudaMemcpyAsync(half->pinned + filled, static_cast<const char*>(part.device) + done, count,
                              cudaMemcpyDeviceToHost, stream()),
              "copy from the device");
        half->unread.push_back({static_cast<char*>(part.host) + done, half->pinned + filled, count});
        filled += count;
        done += count;
      }
    turn();
    next();
  }

  // The half whose turn it is, when its last copies are done and handed out.
  Half& next() {
    Half& half = halves_[turn_++ % 2];
    const cudaError_t error = cudaEventSynchronize(half.done);
    std::vector<Download> unread;
    unread.swap(half.unread);
    check(error, "kernels");
    for (const Download& copy : unread) std::memcpy(copy.host, copy.device, copy.bytes);
    return half;
  }

  Half halves_[2];
  size_t turn_ = 0;
};

Bounce& bounce() {
  static auto* bounce = new Bounce;
  return *bounce;
}

}  // namespace

std::unique_ptr<Upload> beginUpload(const std::vector<HostBytes>& parts) {
  return std::make_unique<CudaUpload>(parts);
}

void copyIn(void* device, const void* host, size_t bytes) {
  bounce().in(static_cast<char*>(device), static_cast<const char*>(host), bytes);
}

void download(const std::vector<Download>& parts) { bounce().out(parts); }

}  // namespace voxgrad::cuda
