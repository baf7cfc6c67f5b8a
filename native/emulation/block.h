// One block of CUDA threads on one thread of the processor. Every CUDA thread is a fiber; it runs until it
// waits for others or ends, and the next one goes on. Which one that is, is a schedule: VOXGRAD_SCHEDULE=0
// takes them in order, 1 backwards, each warp as far as it can go before another one, any other number
// shuffles them, so that a missing barrier shows.
//
// What breaks a rule of CUDA throws Error("ERR_DEVICE") from launch(): threads of a block at different
// barriers, lanes of a warp in different warp operations, a shuffle from a lane that does not take part, a
// barrier that some threads never reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "gate.h"
#include "warpgroup.h"

namespace emulation {

struct Extent {
  unsigned x = 1, y = 1, z = 1;
  Extent(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

constexpr int lanes = 32;
constexpr uint32_t allLanes = 0xffffffffu;

struct Warp {
  static constexpr int mostWords = 16;
  Gate gate;
  int operation = 0;
  uint32_t mask = 0;
  uint32_t living = 0;
  uint32_t in[lanes][mostWords];
  uint32_t out[lanes][mostWords];
};

struct Warpgroup {
  Gate gate;
  uint64_t a = 0, b = 0;
};

// An asynchronous copy to shared memory that nobody has waited for.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  void* stack = nullptr;
  Extent thread;
  int index = 0;
  bool ended = false;
  Gate* waitsAt = nullptr;
  uint32_t generation = 0;
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // how many copies each committed group has
  Products products;

  int lane() const { return index % lanes; }
};

class Block {
 public:
  Block() = default;
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  using Body = void (*)(const void* context);
  void run(Extent index, Extent grid, Extent threads, size_t sharedBytes, Body body, const void* context);
  // The same in parts, for grids whose blocks wait for each other: each call of `resume` runs the block until
  // all of its threads have ended, or until all of them wait at the barrier of the grid, and tells which.
  void begin(Extent index, Extent grid, Extent threads, size_t sharedBytes, Body body, const void* context,
             bool cooperative);
  enum class Progress { ended, waits };
  Progress resume();

  // For the fiber that runs.
  void barrier(int line);
  void gridBarrier(int line);
  // Every lane of `mask` brings words; the last to come computes the answers of all of them.
  template <class Compute>
  const uint32_t* collective(int operation, uint32_t mask, const void* in, size_t bytes, Compute compute);
  // A copy takes place when somebody waits for it or, with VOXGRAD_SCHEDULE=1, at once.
  void beginCopy(const Copy& copy);
  // Carries out all committed groups of copies but the newest `keep`.
  void completeCopies(size_t keep);
  // Every thread of a warpgroup does the same, by these operands.
  void meetWarpgroup(uint64_t a, uint64_t b);
  void wait(Gate& gate);
  void open(Gate& gate);
  [[noreturn]] void fail(const char* why);
  size_t sharedBytes() const { return sharedBytes_; }

  Extent index, grid, threads;
  unsigned char* shared = nullptr;
  // The same as the copy engine and products see it: empty until somebody publishes.
  std::vector<unsigned char> published;
  std::map<const void*, MemoryBarrier> barriers;  // by their places in it

 private:
  void reset(Extent index, Extent grid, Extent threads, size_t sharedBytes);
  void order();
  void next();
  bool goOn(int position);
  Warp& warp();
  static void enter();

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<int> order_;
  int position_ = 0;
  int living_ = 0;
  Gate barrier_, gridBarrier_;
  bool cooperative_ = false, paused_ = false, eager_ = false;
  // Which goes on when the block is resumed.
  Fiber* current_ = nullptr;
  Body body_ = nullptr;
  const void* context_ = nullptr;
  void* home_ = nullptr;
  char* stacks_ = nullptr;
  size_t stackCount_ = 0;
  size_t sharedBytes_ = 0;
  char why_[256] = {};
};

// The block and the fiber that this thread of the processor works on.
extern thread_local Block* block __attribute__((tls_model("initial-exec")));
extern thread_local Fiber* fiber __attribute__((tls_model("initial-exec")));

// Whether asynchronous copies take place as early as they may, instead of as late.
bool copiesAtOnce();

// Runs every block of a grid, spread over the processors.
void launch(Extent grid, Extent threads, size_t sharedBytes, Block::Body body, const void* context);
// The same with all blocks alive at a time, which may wait for each other.
void launchCooperatively(Extent grid, Extent threads, size_t sharedBytes, Block::Body body,
                         const void* context);

inline Warp& Block::warp() { return warps_[fiber->index / lanes]; }

template <class Compute>
const uint32_t* Block::collective(int operation, uint32_t mask, const void* in, size_t bytes,
                                  Compute compute) {
  Warp& mine = warp();
  const int lane = fiber->lane();
  if (!(mask >> lane & 1)) fail("a lane calls a warp operation whose mask leaves it out");
  if (mine.gate.arrived == 0) {
    mine.operation = operation;
    mine.mask = mask;
  } else if (mine.operation != operation || mine.mask != mask) {
    fail("lanes of one warp are in different warp operations");
  }
  if (bytes > 0) std::memcpy(mine.in[lane], in, bytes);
  const uint32_t needed = mask & mine.living;
  if (++mine.gate.arrived == __builtin_popcount(needed)) {
    compute(mine, needed);
    open(mine.gate);
  } else {
    wait(mine.gate);
  }
  return mine.out[lane];
}

}  // namespace emulation
