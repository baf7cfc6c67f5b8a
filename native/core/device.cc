#include "device.h"

#include <map>
#include <thread>

#include "thread_pool.h"

namespace voxgrad {

Device& Device::of(const Backend& backend) {
  static std::mutex mutex;
  static auto* devices = new std::map<const Backend*, Device*>;
  std::lock_guard<std::mutex> lock(mutex);
  Device*& device = (*devices)[&backend];
  if (device == nullptr) device = new Device;
  return *device;
}

Device::Device() {
  std::thread([this] { loop(); }).detach();
}

void Device::submit(std::function<void()> job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void Device::loop() {
  FlushDenormals flush;
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return !queue_.empty(); });
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job();
  }
}

}  // namespace voxgrad
