// Owned, aligned blocks of host memory: states and arenas.
#pragma once

#include <cstddef>
#include <cstdint>

namespace voxgrad {

class Block {
 public:
  static constexpr size_t alignment = 256;

  // Throws Error("ERR_OUT_OF_MEMORY") when the system refuses. Contents are zero.
  explicit Block(size_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // Blocks alive in the process and their bytes, for leak tests.
  static int64_t liveCount();
  static int64_t liveBytes();

 private:
  uint8_t* data_;
  size_t bytes_;
};

}  // namespace voxgrad
