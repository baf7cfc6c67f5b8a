// Checks how tasks are divided among threads. Stand-alone: g++ -std=c++17 -O2 -pthread
// test/native/task_shares_test.cc
#include "../../native/core/task_shares.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

int failures = 0;

void expect(bool holds, const char* what, int64_t tasks, int64_t workers) {
  if (holds) return;
  std::printf("FAILED %s: %ld tasks, %ld workers\n", what, static_cast<long>(tasks),
              static_cast<long>(workers));
  ++failures;
}

// Runs body(worker) on as many threads.
template <typename Body>
void onThreads(int64_t workers, Body body) {
  std::vector<std::thread> threads;
  for (int64_t worker = 0; worker < workers; ++worker) threads.emplace_back(body, worker);
  for (std::thread& thread : threads) thread.join();
}

// A wait that differs from task to task, so that some workers are done long before others.
void dawdle(int64_t task) {
  if (task % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(task % 50));
}

void everyTaskRunsOnce(voxgrad::TaskShares& shares, int64_t tasks, int64_t workers) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
  shares.divide(tasks, workers);
  onThreads(workers, [&](int64_t worker) {
    shares.work(worker, [&](int64_t task) {
      dawdle(task);
      runs[static_cast<size_t>(task)].fetch_add(1);
    });
  });
  bool once = true;
  for (const std::atomic<int>& count : runs) once = once && count.load() == 1;
  expect(once, "every task runs once", tasks, workers);
}

// The first worker stays in its first task until all others have run: only the second one can run those of
// its share.
void idleWorkersTakeOver() {
  constexpr int64_t tasks = 40;
  voxgrad::TaskShares shares;
  shares.divide(tasks, 2);
  std::atomic<int64_t> done{0};
  std::atomic<bool> late{false};
  onThreads(2, [&](int64_t worker) {
    shares.work(worker, [&](int64_t task) {
      const auto start = std::chrono::steady_clock::now();
      while (worker == 0 && task == 0 && done.load() < tasks - 1 && !late.load())
        late.store(std::chrono::steady_clock::now() - start > std::chrono::seconds(5));
      done.fetch_add(1);
    });
  });
  expect(!late.load() && done.load() == tasks, "an idle worker takes what is left of another's share", tasks,
         2);
}

// A worker that is alone in time begins with its own share, whatever the others hold.
void workersBeginWithTheirShare() {
  constexpr int64_t tasks = 30, workers = 3;
  for (int64_t worker = 0; worker < workers; ++worker) {
    voxgrad::TaskShares shares;
    shares.divide(tasks, workers);
    std::vector<int64_t> order;
    shares.work(worker, [&](int64_t task) { order.push_back(task); });
    bool right = order.size() == tasks;
    for (int64_t i = 0; right && i < tasks; ++i)
      right = order[static_cast<size_t>(i)] == (worker * 10 + i) % tasks;
    expect(right, "a worker begins with its own share and goes on with its neighbours'", tasks, workers);
  }
}

void droppedTasksDoNotRun() {
  constexpr int64_t tasks = 100;
  voxgrad::TaskShares shares;
  shares.divide(tasks, 4);
  int64_t runs = 0;
  shares.work(2, [&](int64_t) {
    if (++runs == 5) shares.drop();
  });
  expect(runs == 5, "tasks that nobody has begun are dropped", tasks, 4);
}

}  // namespace

int main() {
  voxgrad::TaskShares shares;
  for (const int64_t workers : {1, 2, 3, 8, 64, 70})
    for (const int64_t tasks : {0, 1, 2, 5, 63, 64, 65, 1000}) everyTaskRunsOnce(shares, tasks, workers);
  idleWorkersTakeOver();
  workersBeginWithTheirShare();
  droppedTasksDoNotRun();
  std::printf("%s\n", failures ? "FAILED" : "all passed");
  return failures ? 1 : 0;
}
