// What a kind of device brings: memory of its own, and kernels that work on it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor.h"

namespace voxgrad {

// A loop at the device's limit.
enum class Limit { multiplyAdd, copy, stream };

struct LimitTimes {
  double work = 0;  // of one run: floating-point operations, or bytes read and written
  std::vector<double> milliseconds;
};

// Data of the machine's memory.
struct HostBytes {
  const void* data;
  size_t bytes;
};

// A copy of data of the device into the machine's memory.
struct Download {
  void* host;
  const void* device;
  size_t bytes;
};

// Data on its way to the device, beside what that does.
class Upload {
 public:
  explicit Upload(const std::vector<HostBytes>& parts) {
    for (const HostBytes& part : parts) sizes_.push_back(part.bytes);
  }
  virtual ~Upload() = default;
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // Bytes of each part.
  const std::vector<size_t>& sizes() const { return sizes_; }
  // Puts a part at `device`, as often as is asked. From the device's thread, in the order of its calls.
  virtual void deliver(size_t part, void* device) = 0;

 private:
  std::vector<size_t> sizes_;
};

// Work of the device that was recorded.
class Recording {
 public:
  Recording() = default;
  virtual ~Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual void replay() = 0;
};

// Calls come from the device's thread, but for `allocate`, `release`, `upload`, `find` and the descriptions.
// A device may do its work later, in the order of the calls; `download` and `finish` wait for it. Once it has
// failed for good, every call throws Error("ERR_DEVICE") with the first cause, but for `release`.
class Backend {
 public:
  static constexpr size_t alignment = 256;

  virtual const char* name() const = 0;
  // One line for people.
  virtual std::string describe() const = 0;
  // Bytes that are free on the device now; 0 where that is the machine's own memory.
  virtual size_t freeMemory() const = 0;

  // Zeroed, and aligned to `alignment`; throws Error("ERR_OUT_OF_MEMORY") when there is none.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data) = 0;
  virtual void copyIn(void* device, const void* host, size_t bytes) = 0;
  virtual void download(const std::vector<Download>& parts) = 0;
  void copyOut(void* host, const void* device, size_t bytes) { download({{host, device, bytes}}); }
  virtual void fill(void* device, uint8_t byte, size_t bytes) = 0;
  virtual void finish() = 0;
  // Takes a copy of the parts at the call and begins to bring it to the device. From any thread.
  virtual std::unique_ptr<Upload> upload(const std::vector<HostBytes>& parts) = 0;
  // What `commands` has the device do, recorded and not done; null where that cannot be, with the reason.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& commands, std::string* why) {
    *why = "the device records nothing";
    return nullptr;
  }
  // What errors call that which the device is told to do from here on.
  virtual void announce(const std::string& work) {}
  // Whether the processor may read and write the device's memory.
  virtual bool hostMemory() const = 0;

  // Null when there is no kernel of that name.
  virtual const Kernel* find(const std::string& name) const = 0;
  virtual std::vector<std::string> kernelNames() const = 0;
  // How often each function of the device was launched, where the device counts that.
  virtual std::map<std::string, int64_t> launches() const { return {}; }
  // Times `runs` runs of `amount` iterations of multiply-adds, or of copies of that many bytes (`stream`:
  // past the caches, where the device knows the difference). Throws Error("ERR_ABORTED") once cancelled.
  virtual LimitTimes measure(Limit limit, int64_t amount, int64_t runs,
                             const std::atomic<bool>& cancelled) = 0;

 protected:
  ~Backend() = default;
};

// The backend that is always there. Its `prepare` says for all backends which steps of an op are safe.
Backend& cpuBackend();

// Opens a library that holds another backend. It stays open; opening it again yields the same backend. Throws
// Error("ERR_DEVICE") with the reason when it cannot be used.
Backend& openBackend(const std::string& path);

// The one function that such a library exports: its backend, or null and *why. `build` is the caller's
// backendBuild(): the two exchange C++ objects and so must have been built alike.
using BackendEntry = Backend* (*)(const char* build, std::string* why);
constexpr const char* backendEntryName = "voxgrad_backend";

// What both sides of that call must agree on.
inline std::string backendBuild() {
  return "voxgrad backend 2, kernel " + std::to_string(sizeof(Kernel)) + ", step " +
         std::to_string(sizeof(Step)) + ", string " + std::to_string(sizeof(std::string));
}

}  // namespace voxgrad
