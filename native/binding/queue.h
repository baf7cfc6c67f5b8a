// Work on the device thread that settles a Promise on the JavaScript thread it came from.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "../core/backend.h"

namespace voxgrad::binding {

// One per environment (main thread or worker). Owned by the instance data; its cleanup hook cancels what is
// queued and waits for the running kernel, so an exit in the middle of a step is clean.
class Queue {
 public:
  explicit Queue(Napi::Env env);

  // What runs on the device's thread; it may throw voxgrad::Error. `cancelled` is set by the caller or at
  // exit.
  using Work = std::function<void(const std::atomic<bool>& cancelled)>;
  // Makes the value of the Promise on the JavaScript thread.
  using Finish = std::function<Napi::Value(Napi::Env)>;

  struct Ticket {
    Napi::Promise promise;
    std::shared_ptr<std::atomic<bool>> cancelled;
  };
  Ticket submit(Napi::Env env, const Backend& backend, Work work, Finish finish);

 private:
  struct Job;
  static void settle(Napi::Env env, Napi::Function, std::nullptr_t*, Job* job);
  using Callback = Napi::TypedThreadSafeFunction<std::nullptr_t, Job, settle>;
  static void cleanUp(void* self);

  std::mutex mutex_;
  std::condition_variable drained_;
  int pending_ = 0;    // submitted and not yet through the device thread
  int unsettled_ = 0;  // promises not yet settled; only the JavaScript thread touches it
  std::atomic<bool> closing_{false};
  std::shared_ptr<std::atomic<bool>> running_;
  Callback callback_;
};

}  // namespace voxgrad::binding
