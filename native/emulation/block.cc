#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>

#include "../core/tensor.h"
#include "../core/thread_pool.h"
#include "switch.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emulation {

// Arguments of 32 KiB lie there twice where nothing is optimised away.
constexpr size_t stackBytes = 128 << 10;

thread_local Block* block = nullptr;
thread_local Fiber* fiber = nullptr;

Block::~Block() {
  if (stacks_ != nullptr) munmap(stacks_, stackCount_ * stackBytes);
  std::free(shared);
}

static uint64_t scheduleSeed() {
  const char* text = std::getenv("VOXGRAD_SCHEDULE");
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

void Block::order() {
  order_.resize(fibers_.size());
  std::iota(order_.begin(), order_.end(), 0);
  const uint64_t seed = scheduleSeed();
  if (seed == 1) std::reverse(order_.begin(), order_.end());
  uint64_t random = seed * 0x9e3779b97f4a7c15u + index.x;
  for (size_t i = order_.size(); seed > 1 && i-- > 1;) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(order_[i], order_[(random >> 33) % (i + 1)]);
  }
}

void Block::reset(Extent index, Extent grid, Extent threads, size_t sharedBytes) {
  this->index = index;
  this->grid = grid;
  this->threads = threads;
  const size_t count = size_t{threads.x} * threads.y * threads.z;
  if (stackCount_ < count) {
    if (stacks_ != nullptr) munmap(stacks_, stackCount_ * stackBytes);
    stacks_ = static_cast<char*>(mmap(nullptr, count * stackBytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks_ == MAP_FAILED) throw std::bad_alloc();
    stackCount_ = count;
  }
  // Of exactly this size, so that AddressSanitizer sees what lies behind it; NaN, so that a read before a
  // write shows.
  if (sharedBytes_ != sharedBytes || shared == nullptr) {
    std::free(shared);
    void* fresh = nullptr;
    if (posix_memalign(&fresh, 128, sharedBytes > 0 ? sharedBytes : 1) != 0) throw std::bad_alloc();
    shared = static_cast<unsigned char*>(fresh);
    sharedBytes_ = sharedBytes;
  }
  std::memset(shared, 0xff, sharedBytes);

  fibers_.resize(count);
  warps_.assign((count + lanes - 1) / lanes, Warp{});
  warpgroups_.assign((count + warpgroupThreads - 1) / warpgroupThreads, Warpgroup{});
  barriers.clear();
  published.clear();
  eager_ = copiesAtOnce();
  living_ = static_cast<int>(count);
  barrier_ = gridBarrier_ = Gate{};
  why_[0] = 0;
  for (size_t i = 0; i < count; i++) {
    Fiber& each = fibers_[i];
    const unsigned at = static_cast<unsigned>(i);
    each.index = static_cast<int>(i);
    each.thread = {at % threads.x, at / threads.x % threads.y, at / (threads.x * threads.y)};
    each.ended = false;
    each.waitsAt = nullptr;
    each.copies.clear();
    each.groups.clear();
    each.products = Products{};
#if defined(__SANITIZE_ADDRESS__)
    // The last frames of a fiber never returned: the next one's may lie there.
    constexpr size_t last = 4096;
    ASAN_UNPOISON_MEMORY_REGION(stacks_ + (i + 1) * stackBytes - last, last);
#endif
    // Spread over the sets of the caches.
    each.stack = prepareStack(stacks_ + (i + 1) * stackBytes - 256 - (i % 16) * 64, enter);
    warps_[i / lanes].living |= 1u << (i % lanes);
  }
  order();
}

void Block::run(Extent index, Extent grid, Extent threads, size_t sharedBytes, Body body,
                const void* context) {
  begin(index, grid, threads, sharedBytes, body, context, false);
  resume();
}

void Block::begin(Extent index, Extent grid, Extent threads, size_t sharedBytes, Body body,
                  const void* context, bool cooperative) {
  reset(index, grid, threads, sharedBytes);
  body_ = body;
  context_ = context;
  cooperative_ = cooperative;
  position_ = 0;
  current_ = &fibers_[order_[0]];
}

Block::Progress Block::resume() {
  block = this;
  fiber = current_;
  paused_ = false;
  switchStack(&home_, fiber->stack);
  fiber = nullptr;
  block = nullptr;
  if (why_[0] != 0) throw voxgrad::Error("ERR_DEVICE", why_);
  return paused_ ? Progress::waits : Progress::ended;
}

void Block::enter() {
  Block& mine = *block;
  mine.body_(mine.context_);
  Fiber& self = *fiber;
  self.ended = true;
  mine.living_--;
  Warp& warp = mine.warps_[self.index / lanes];
  warp.living &= ~(1u << self.lane());
  if (mine.living_ > 0 && mine.barrier_.arrived == mine.living_) mine.open(mine.barrier_);
  mine.next();
  std::abort();
}

// Leaves the running fiber for the one at this place of the order, if that can go on.
bool Block::goOn(int position) {
  Fiber *from = fiber, *to = &fibers_[order_[position]];
  if (to->ended || (to->waitsAt != nullptr && to->waitsAt->generation == to->generation)) return false;
  to->waitsAt = nullptr;
  position_ = position;
  fiber = to;
  if (to != from) switchStack(&from->stack, to->stack);
  return true;
}

// Leaves the running fiber for the next that can go on.
void Block::next() {
  const int count = static_cast<int>(fibers_.size());
  const int firstOfWarp = fiber->index / lanes * lanes;
  for (int i = 1; i < lanes && eager_; i++) {
    const int index = firstOfWarp + (fiber->lane() + lanes - i) % lanes;
    if (index < count && goOn(count - 1 - index)) return;
  }
  for (int position = position_ + 1; position <= position_ + count; position++)
    if (goOn(position % count)) return;
  if (living_ == 0) {
    void* nowhere;
    switchStack(&nowhere, home_);
  }
  fail("some threads wait at a barrier or warp operation that the others never reach");
}

void Block::fail(const char* why) {
  std::snprintf(why_, sizeof why_, "%s (block %u,%u,%u, thread %u,%u,%u)", why, index.x, index.y, index.z,
                fiber->thread.x, fiber->thread.y, fiber->thread.z);
  void* nowhere;
  switchStack(&nowhere, home_);
  std::abort();
}

void Block::wait(Gate& gate) {
  fiber->waitsAt = &gate;
  fiber->generation = gate.generation;
  next();
}

void Block::open(Gate& gate) {
  gate.arrived = 0;
  gate.generation++;
}

void Block::barrier(int line) {
  if (barrier_.arrived == 0)
    barrier_.line = line;
  else if (barrier_.line != line)
    fail("threads of one block are at different __syncthreads");
  if (++barrier_.arrived == living_)
    open(barrier_);
  else
    wait(barrier_);
}

void Block::meetWarpgroup(uint64_t a, uint64_t b) {
  Warpgroup& mine = warpgroups_[fiber->index / warpgroupThreads];
  if (mine.gate.arrived == 0) {
    mine.a = a;
    mine.b = b;
  } else if (mine.a != a || mine.b != b) {
    fail("warps of one warpgroup multiply different operands, or one waits and another does not");
  }
  if (++mine.gate.arrived == warpgroupThreads)
    open(mine.gate);
  else
    wait(mine.gate);
}

void Block::gridBarrier(int line) {
  if (!cooperative_) fail("a barrier of the grid in a kernel that was not launched cooperatively");
  if (gridBarrier_.arrived == 0)
    gridBarrier_.line = line;
  else if (gridBarrier_.line != line)
    fail("threads of one block are at different barriers of the grid");
  if (++gridBarrier_.arrived < living_) return wait(gridBarrier_);
  current_ = fiber;
  paused_ = true;
  switchStack(&current_->stack, home_);
  open(gridBarrier_);
}

bool copiesAtOnce() { return scheduleSeed() == 1; }

static void carryOut(const Copy& copy) {
  if (copy.from != nullptr)
    std::memcpy(copy.to, copy.from, copy.bytes);
  else
    std::memset(copy.to, 0, copy.bytes);
}

void Block::beginCopy(const Copy& copy) {
  if (eager_)
    carryOut(copy);
  else
    fiber->copies.push_back(copy);
}

void Block::completeCopies(size_t keep) {
  Fiber& self = *fiber;
  while (self.groups.size() > keep) {
    const size_t count = self.groups.front();
    self.groups.erase(self.groups.begin());
    for (size_t i = 0; i < count; i++) carryOut(self.copies[i]);
    self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

void launch(Extent grid, Extent threads, size_t sharedBytes, Block::Body body, const void* context) {
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  // Few, long tasks: each keeps one block's stacks.
  const int64_t tasks = std::min<int64_t>(blocks, 16);
  voxgrad::parallelFor(tasks, [&](int64_t task) {
    static thread_local Block* own = new Block;
    for (int64_t i = task; i < blocks; i += tasks) {
      const unsigned at = static_cast<unsigned>(i);
      own->run({at % grid.x, at / grid.x % grid.y, at / (grid.x * grid.y)}, grid, threads, sharedBytes, body,
               context);
    }
  });
}

// One after the other between the barriers, so that a block which reads too early what a later one writes
// does not find it.
void launchCooperatively(Extent grid, Extent threads, size_t sharedBytes, Block::Body body,
                         const void* context) {
  const int64_t count = int64_t{grid.x} * grid.y * grid.z;
  // They keep their stacks, as those of other launches do.
  static thread_local auto* own = new std::vector<std::unique_ptr<Block>>;
  std::vector<Block*> blocks;
  for (unsigned i = 0; i < count; i++) {
    if (i == own->size()) own->push_back(std::make_unique<Block>());
    blocks.push_back((*own)[i].get());
    blocks.back()->begin({i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)}, grid, threads, sharedBytes,
                         body, context, true);
  }
  if (scheduleSeed() % 2 == 1) std::reverse(blocks.begin(), blocks.end());
  for (int64_t waiting = count; waiting > 0;) {
    waiting = 0;
    for (Block* each : blocks) waiting += each->resume() == Block::Progress::waits;
    if (waiting != 0 && waiting != count)
      throw voxgrad::Error("ERR_DEVICE", "some blocks never reach a barrier of the grid where others wait");
  }
}

}  // namespace emulation
