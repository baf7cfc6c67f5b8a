#include "memory.h"

#include <atomic>

namespace voxgrad {

static std::atomic<int64_t> count{0};
static std::atomic<int64_t> total{0};

Block::Block(Backend& backend, size_t bytes)
    : backend_(backend), data_(static_cast<uint8_t*>(backend.allocate(bytes))), bytes_(bytes) {
  count++;
  total += static_cast<int64_t>(bytes_);
}

Block::~Block() {
  backend_.release(data_);
  count--;
  total -= static_cast<int64_t>(bytes_);
}

int64_t Block::liveCount() { return count; }
int64_t Block::liveBytes() { return total; }

}  // namespace voxgrad
