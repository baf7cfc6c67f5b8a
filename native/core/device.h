// A device of the process: one thread that works through a queue, for each backend.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "backend.h"

namespace voxgrad {

class Device {
 public:
  // Started at first use and never destroyed: nothing runs in static destructors.
  static Device& of(const Backend& backend);

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
