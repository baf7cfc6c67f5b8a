// Tasks shared out among workers that own scratch memory.
#pragma once

#include <cstdint>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {

// Calls body(worker, task) for every task in [0, tasks); a worker, of [0, workers), is one thread at a time.
template <typename Body>
void forTasks(int64_t workers, int64_t tasks, Body body) {
  TaskShares shares;
  shares.divide(tasks, workers);
  parallelFor(workers,
              [&](int64_t worker) { shares.work(worker, [&](int64_t task) { body(worker, task); }); });
}

}  // namespace voxgrad::cpu
