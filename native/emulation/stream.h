// The emulated device behind the runtime's calls.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime.h"

namespace emulation {

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> work;
};

class Stream {
 public:
  // Does `work` when the stream is waited for, or records it.
  void push(Work work);
  // Does everything up to the piece of work of that number.
  void drain(uint64_t until);
  uint64_t pushed() const { return pushed_; }

 private:
  std::mutex queueing_, running_;
  std::deque<Work> queue_;
  std::atomic<uint64_t> pushed_{0}, done_{0};
};

// The end of a stream as it was when the event was recorded.
struct Event {
  Stream* stream = nullptr;
  uint64_t work = 0;
};

// What a thread records, if anything.
struct Capture {
  Stream* stream;
  std::unique_ptr<Graph> graph;
  bool spoilt = false;
};
extern thread_local std::unique_ptr<Capture> capture;

// Spoils the capture of this thread and returns the error that says so.
cudaError_t spoilCapture();

// What has become of the device, and its memory.
struct State {
  std::mutex mutex;
  // An error stays for good.
  cudaError_t error = cudaSuccess;
  std::string why;
  std::vector<Stream*> streams;
  std::map<const char*, size_t> pinned;
  std::map<void*, size_t> allocated;
  size_t bytes = 0;
  // Of the kernel that is to fail.
  int64_t launches = 0;
};
State& state();

// The major number of the compute capability.
int capability();
// The error that has stayed.
cudaError_t failure();
bool isPinned(const void* data);

}  // namespace emulation
