// Owned blocks of device memory: states and arenas.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend.h"

namespace voxgrad {

class Block {
 public:
  // Throws Error("ERR_OUT_OF_MEMORY") when the device refuses. Contents are zero.
  Block(Backend& backend, size_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  Backend& backend() const { return backend_; }
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // How often the contents were replaced since they were zero: what is computed from a state stays good for
  // as long as its version does. Counted by whoever writes, on the device thread.
  uint64_t version() const { return version_; }
  void countWrite() { version_++; }

  // Blocks alive in the process and their bytes, for leak tests.
  static int64_t liveCount();
  static int64_t liveBytes();

 private:
  Backend& backend_;
  uint8_t* data_;
  size_t bytes_;
  uint64_t version_ = 0;
};

}  // namespace voxgrad
