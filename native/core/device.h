// The CPU device: one thread that works through a queue, shared by all of the process.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace voxgrad {

class Device {
 public:
  // Started at first use and never destroyed: nothing runs in static destructors.
  static Device& shared();

  // Runs `job` after everything submitted before it. Jobs must not throw.
  void submit(std::function<void()> job);

 private:
  Device();
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

}  // namespace voxgrad
