#pragma once

#include <cstdint>

namespace emulation {

// Where fibers wait for each other.
struct Gate {
  uint32_t generation = 0;
  int arrived = 0;
  int line = 0;
};

}  // namespace emulation
