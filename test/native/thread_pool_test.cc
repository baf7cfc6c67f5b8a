// Checks the pool of threads. Stand-alone:
// g++ -std=c++17 -O2 -pthread test/native/thread_pool_test.cc native/core/thread_pool.cc
#include "../../native/core/thread_pool.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

int main() {
  auto& pool = voxgrad::ThreadPool::shared();
  std::vector<int> visits(1000);
  pool.run(1000, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
  bool once = std::all_of(visits.begin(), visits.end(), [](int n) { return n == 1; });
  bool caught = false;
  try {
    pool.run(100, [](int64_t i) {
      if (i == 50) throw std::runtime_error("task 50");
    });
  } catch (const std::runtime_error& error) {
    caught = std::string(error.what()) == "task 50";
  }
  std::vector<int64_t> inner(16);
  pool.run(16, [&](int64_t i) {
    voxgrad::parallelFor(10, [&](int64_t j) { inner[static_cast<size_t>(i)] += j; });
  });
  const bool nested = std::all_of(inner.begin(), inner.end(), [](int64_t sum) { return sum == 45; });
  std::printf("each task once %d, exception %d, nested %d\n", once, caught, nested);
  return once && caught && nested ? 0 : 1;
}
