// Tasks shared out among workers that own scratch memory.
#pragma once

#include <atomic>
#include <cstdint>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

// Calls body(worker, task) for every task in [0, tasks); a worker, of [0, workers), is one thread at a time.
template <typename Body>
void forTasks(int64_t workers, int64_t tasks, Body body) {
  std::atomic<int64_t> next{0};
  parallelFor(workers, [&](int64_t worker) {
    for (int64_t task = next++; task < tasks; task = next++) body(worker, task);
  });
}

}  // namespace voxgrad::cpu
