// The process-wide pool of worker threads that CPU kernels share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <type_traits>

#include "task_shares.h"

namespace voxgrad {

// Sets flush-to-zero and denormals-are-zero for the calling thread and restores the previous mode at the
// end of its scope, so that kernels never meet the slow denormal path and JavaScript never sees the mode.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint64_t saved_;
};

// A pool of size() threads, the caller of run() being one of them.
//
// Size: VOXGRAD_THREADS when it is a positive integer, else the smaller of the CPUs this process may run on
// and the cgroup CPU quota (rounded up); at least 1. The pool lives until the process ends.
class ThreadPool {
 public:
  static ThreadPool& shared();

  int size() const { return size_; }

  // Calls task(i) once for every i in [0, tasks), in no particular order, and returns when all have ended.
  // Tasks run with denormals flushed. An exception thrown by a task is rethrown here (the first one seen);
  // tasks not yet begun are then dropped. Several threads may call run(): one job runs at a time. A task
  // that itself calls run() executes the inner job alone, in order.
  template <typename Task>
  void run(int64_t tasks, Task&& task) {
    using Callable = std::remove_reference_t<Task>;
    runErased(
        tasks,
        [](const void* context, int64_t i) { (*static_cast<Callable*>(const_cast<void*>(context)))(i); },
        static_cast<const void*>(&task));
  }

 private:
  using Invoke = void (*)(const void* context, int64_t task);

  explicit ThreadPool(int size);
  void runErased(int64_t tasks, Invoke invoke, const void* context);
  void work(int64_t worker);
  void workerLoop(int index);
  uint64_t awaitTicket(uint64_t seen);

  const int size_;
  std::mutex callers_;

  // The ticket holds the job number above bit 16 and the count of invited workers below: a worker learns in
  // one load whether a job concerns it, and an uninvited one never reads the job's fields.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> busy_{0};
  TaskShares shares_;
  Invoke invoke_ = nullptr;
  const void* context_ = nullptr;
  std::exception_ptr error_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
};

// ThreadPool::shared().run(tasks, task).
template <typename Task>
void parallelFor(int64_t tasks, Task&& task) {
  ThreadPool::shared().run(tasks, task);
}

}  // namespace voxgrad
