#include "memory.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tensor.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace voxgrad {

static std::atomic<int64_t> count{0};
static std::atomic<int64_t> total{0};

Block::Block(size_t bytes) : bytes_(bytes) {
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_ = rounded < bytes
              ? nullptr
              : static_cast<uint8_t*>(std::aligned_alloc(alignment, rounded ? rounded : alignment));
  if (data_ == nullptr)
    throw Error("ERR_OUT_OF_MEMORY", "the system refused " + std::to_string(bytes) + " bytes of memory");
#ifdef MADV_HUGEPAGE
  // Activations are streamed through: huge pages spare most of the address translation.
  constexpr size_t page = 4096;
  uint8_t* begin = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(data_) + page - 1) & ~(page - 1));
  if (begin + page < data_ + rounded) madvise(begin, (data_ + rounded - begin) & ~(page - 1), MADV_HUGEPAGE);
#endif
  std::memset(data_, 0, bytes_);
  count++;
  total += static_cast<int64_t>(bytes_);
}

Block::~Block() {
  std::free(data_);
  count--;
  total -= static_cast<int64_t>(bytes_);
}

int64_t Block::liveCount() { return count; }
int64_t Block::liveBytes() { return total; }

}  // namespace voxgrad
