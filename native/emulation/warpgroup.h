// What compute capability 9 does beside the threads of a block: barriers in shared memory that count bytes,
// the copies which bring them, and products of a warpgroup, the four warps that begin at a multiple of four.
//
// A copy takes place when somebody waits for its barrier, or, with VOXGRAD_SCHEDULE=1, at once: a missing
// wait shows in the first case, memory that is written too early in the second. A product takes place when it
// is waited for; until then its sums are NaN. It reads what copies brought, and what threads have written and
// published: what is written behind that shows as what was there before, or as NaN.
#pragma once

#include <cstdint>
#include <vector>

#include "gate.h"
#include "tensor_map.h"

namespace emulation {

constexpr int warpgroupThreads = 128;

// Where the 128-byte swizzle puts what has this address in shared memory: the sixteen bytes that are bits 4
// to 6 of it change places by bits 7 to 9, so eight rows of 128 bytes take turns.
inline uint32_t swizzled128(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// An address in shared memory as instructions see it; the block's memory begins at a multiple of 128 only.
uint32_t sharedAddress(const void* data);

struct MemoryBarrier {
  int expected;  // arrivals of a phase
  int missing;
  int64_t bytes = 0;  // that have yet to come
  bool published = false;
  uint32_t phase = 0;
  int waiting = 0;
  std::vector<BoxCopy> copies = {};
  Gate gate = {};
};

// Shows the copy engine, and products, what threads have written to shared memory until now.
void publish();

// For the thread that runs. `barrier` is eight aligned bytes of shared memory.
void initBarrier(void* barrier, int arrivals);
// Announces bytes that a phase waits for besides.
void arriveAtBarrier(void* barrier, int64_t bytes);
// Waits until the phase of that parity is over.
void waitAtBarrier(void* barrier, uint32_t parity);
void copyBox(const BoxCopy& copy, void* barrier);

// 64 rows by `columns` of sums, += a b of 32 bytes of depth, operands by the descriptors of their places in
// shared memory.
struct Product {
  // What follows each other there is of one row of a, or column of b; or of one depth.
  enum Kind { bf16, bf16ByDepth, tf32 };
  uint64_t a, b;
  Kind kind;
  int columns;
  float* sums;  // the columns / 2 of the thread
};

// The products of one thread of a warpgroup.
class Products {
 public:
  void fence() { fenced_ = true; }
  void issue(const Product& product);
  void commit();
  // Carries out all committed groups but the newest `keep`.
  void wait(size_t keep);

 private:
  // Sums that products under way add to.
  struct Hidden {
    float* sums;
    std::vector<float> values;
  };
  Hidden& hiddenOf(const Product& product);

  std::vector<Product> products_;
  std::vector<size_t> groups_;  // how many products each committed group has
  std::vector<Hidden> hidden_;
  bool fenced_ = false;
};

}  // namespace emulation
