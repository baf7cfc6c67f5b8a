// Tasks divided among workers.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace voxgrad {

// A worker begins with a share of neighbouring tasks, the same one whenever as many tasks are divided among
// as many workers: what one kernel leaves in the cache of a core the next one, or the next run, finds there.
// Whoever is done takes tasks of the others' shares.
class TaskShares {
 public:
  // Nobody may be working.
  void divide(int64_t tasks, int64_t workers) {
    count_ = std::clamp<int64_t>(workers, 1, kMost);
    for (int64_t i = 0; i < count_; ++i) {
      shares_[i].next.store(tasks * i / count_, std::memory_order_relaxed);
      shares_[i].end = tasks * (i + 1) / count_;
    }
  }

  // Calls body(task) for tasks that nobody else has, until there are none.
  template <typename Body>
  void work(int64_t worker, Body body) {
    for (int64_t i = 0; i < count_; ++i) {
      Share& share = shares_[(worker + i) % count_];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
        if (task < share.end) body(task);
      }
    }
  }

  // Leaves out the tasks that nobody has begun.
  void drop() {
    for (int64_t i = 0; i < count_; ++i) shares_[i].next.store(shares_[i].end, std::memory_order_relaxed);
  }

 private:
  // More workers than this share their shares.
  static constexpr int64_t kMost = 64;
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Share shares_[kMost];
  int64_t count_ = 0;
};

}  // namespace voxgrad
