#include "warpgroup.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "block.h"
#include "tensor_core.h"

namespace emulation {
namespace {

// Where the memory of a block begins: no multiple of what swizzled tiles must be aligned to.
constexpr uint32_t windowStart = 128;

const unsigned char* sharedData(uint32_t address, size_t bytes) {
  if (address < windowStart || address - windowStart + bytes > block->sharedBytes())
    block->fail("an operand of a product lies outside of shared memory");
  if (block->published.empty()) block->fail("a product in a block that has published nothing");
  return block->published.data() + (address - windowStart);
}

MemoryBarrier& barrierAt(void* data) {
  const auto found = block->barriers.find(data);
  if (found == block->barriers.end()) block->fail("a barrier in shared memory that nobody has made");
  return found->second;
}

void land(MemoryBarrier& barrier) {
  for (const BoxCopy& copy : barrier.copies) {
    copy.carryOut(sharedAddress(copy.to));
    std::memcpy(block->published.data() + (copy.to - block->shared), copy.to, copy.bytes());
    barrier.bytes -= static_cast<int64_t>(copy.bytes());
  }
  barrier.copies.clear();
}

// Ends the phase where nothing is missing any more.
void settle(MemoryBarrier& barrier) {
  if (barrier.missing > 0) return;
  if (barrier.waiting > 0 || copiesAtOnce()) land(barrier);
  if (barrier.bytes != 0 || !barrier.copies.empty()) return;
  barrier.phase++;
  barrier.missing = barrier.expected;
  barrier.waiting = 0;
  block->open(barrier.gate);
}

using Four = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(8)));

// Of a row of a, or column of b, 16 numbers of bfloat16, or 8 of TF32 and as many zeros.
struct Numbers {
  Four part[4];
};

// A matrix by its descriptor: the address and both offsets in units of sixteen bytes. Its rows are those of
// a, or the columns of b.
class Operand {
 public:
  Operand(uint64_t descriptor, Product::Kind kind)
      : kind_(kind),
        start_((descriptor & 0x3fff) << 4),
        leading_((descriptor >> 16 & 0x3fff) << 4),
        stride_((descriptor >> 32 & 0x3fff) << 4),
        swizzled_(descriptor >> 62 == 1) {
    if ((descriptor >> 62 > 1) || (descriptor >> 49 & 7) != 0)
      block->fail("a descriptor with a swizzle or offset that is not emulated");
    if (kind == Product::bf16ByDepth && !swizzled_)
      block->fail("an operand by its depth that is not swizzled");
  }

  Numbers row(int row) const { return kind_ == Product::bf16ByDepth ? acrossRows(row) : alongRow(row); }

 private:
  // Eight rows are a matrix of 16 bytes each, or lie 128 bytes apart where swizzled.
  Numbers alongRow(int row) const {
    Numbers elements;
    for (uint32_t half = 0; half < 2; half++) {
      uint32_t address = start_ + row / 8 * stride_;
      if (swizzled_)
        address = swizzled128(address + row % 8 * 128 + half * 16);
      else
        address += row % 8 * 16 + half * leading_;
      const unsigned char* const from = sharedData(address, 16);
      for (int i = 0; i < 2; i++) {
        Words wide;
        if (kind_ == Product::tf32) {
          std::memcpy(&wide, from, sizeof wide);
          wide &= i == 0 ? ~0x1fffu : 0u;
        } else {
          Halves bits;
          std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
          wide = __builtin_convertvector(bits, Words) << 16;
        }
        std::memcpy(&elements.part[half * 2 + i], &wide, sizeof wide);
      }
    }
    return elements;
  }
  // 64 rows are 128 bytes of one depth; eight depths follow each other.
  Numbers acrossRows(int row) const {
    Numbers elements;
    const uint32_t first = start_ + row / 64 * leading_ + row % 64 * 2;
    for (uint32_t k = 0; k < 16; k++) {
      uint16_t bits;
      std::memcpy(&bits, sharedData(swizzled128(first + k / 8 * stride_ + k % 8 * 128), sizeof bits),
                  sizeof bits);
      const uint32_t wide = uint32_t{bits} << 16;
      float element;
      std::memcpy(&element, &wide, sizeof wide);
      elements.part[k / 4][k % 4] = element;
    }
    return elements;
  }

  Product::Kind kind_;
  uint32_t start_, leading_, stride_;
  bool swizzled_;
};

float addDot(float sum, const Numbers& a, const Numbers& b) {
  float left[16], right[16];
  std::memcpy(left, &a, sizeof left);
  std::memcpy(right, &b, sizeof right);
  return addProducts<16>(sum, left, right);
}

// The part of a thread: of rows `group` and `group` + 8 of its warp's 16, every fourth pair of columns.
void carryOut(const Product& product, float* sums) {
  const Operand a(product.a, product.kind), b(product.b, product.kind);
  const int lane = fiber->lane(), row = fiber->index % warpgroupThreads / lanes * 16 + lane / 4;
  const Numbers rows[2] = {a.row(row), a.row(row + 8)};
  for (int column = 0; column < product.columns; column += 8) {
    const Numbers columns[2] = {b.row(column + lane % 4 * 2), b.row(column + lane % 4 * 2 + 1)};
    for (int i = 0; i < 4; i++) {
      float& sum = sums[column / 2 + i];
      sum = addDot(sum, rows[i / 2], columns[i % 2]);
    }
  }
}

}  // namespace

uint32_t sharedAddress(const void* data) {
  return windowStart + static_cast<uint32_t>(static_cast<const unsigned char*>(data) - block->shared);
}

void publish() {
  block->published.assign(block->shared, block->shared + block->sharedBytes());
  for (auto& [place, barrier] : block->barriers) barrier.published = true;
}

void initBarrier(void* data, int arrivals) {
  if (sharedAddress(data) % 8 != 0) block->fail("a barrier in shared memory that is not aligned");
  block->barriers[data] = MemoryBarrier{arrivals, arrivals};
}

void arriveAtBarrier(void* data, int64_t bytes) {
  MemoryBarrier& barrier = barrierAt(data);
  if (barrier.missing == 0) block->fail("more threads arrive at a barrier than it expects");
  barrier.missing--;
  barrier.bytes += bytes;
  settle(barrier);
}

void waitAtBarrier(void* data, uint32_t parity) {
  MemoryBarrier& barrier = barrierAt(data);
  while (barrier.phase % 2 == parity) {
    barrier.waiting++;
    settle(barrier);
    if (barrier.phase % 2 == parity) block->wait(barrier.gate);
  }
}

void copyBox(const BoxCopy& copy, void* data) {
  MemoryBarrier& barrier = barrierAt(data);
  if (!barrier.published) block->fail("a copy that counts at a barrier which nobody has published");
  if (sharedAddress(copy.to) % 128 != 0) block->fail("a copy of a box to where it is not aligned");
  barrier.copies.push_back(copy);
  if (copiesAtOnce()) land(barrier);
  settle(barrier);
}

void Products::issue(const Product& product) {
  if (!fenced_) block->fail("a product of a warpgroup without a fence in front of it");
  block->meetWarpgroup(product.a, product.b);
  hiddenOf(product);
  std::fill_n(product.sums, product.columns / 2, NAN);
  products_.push_back(product);
}

Products::Hidden& Products::hiddenOf(const Product& product) {
  for (Hidden& hidden : hidden_)
    if (hidden.sums == product.sums) return hidden;
  hidden_.push_back({product.sums, {product.sums, product.sums + product.columns / 2}});
  return hidden_.back();
}

void Products::commit() {
  size_t grouped = 0;
  for (const size_t count : groups_) grouped += count;
  groups_.push_back(products_.size() - grouped);
}

void Products::wait(size_t keep) {
  fenced_ = false;
  // Whatever the others do in front of their waits comes before the products.
  block->meetWarpgroup(keep, ~uint64_t{0});
  while (groups_.size() > keep) {
    const auto end = products_.begin() + static_cast<std::ptrdiff_t>(groups_.front());
    for (auto product = products_.begin(); product != end; product++)
      carryOut(*product, hiddenOf(*product).values.data());
    products_.erase(products_.begin(), end);
    groups_.erase(groups_.begin());
  }
  for (size_t i = hidden_.size(); i-- > 0;) {
    const Hidden& hidden = hidden_[i];
    const auto adds = [&](const Product& product) { return product.sums == hidden.sums; };
    if (std::any_of(products_.begin(), products_.end(), adds)) continue;
    std::copy(hidden.values.begin(), hidden.values.end(), hidden.sums);
    hidden_.erase(hidden_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace emulation
