#include "paranoia.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace voxgrad {

void poison(const Block& block) { block.backend().fill(block.data(), 0xff, block.bytes()); }

static std::vector<uint8_t> contentsOf(const Block& block) {
  std::vector<uint8_t> bytes(block.bytes());
  block.backend().copyOut(bytes.data(), block.data(), bytes.size());
  return bytes;
}

static bool inside(const uint8_t* byte, const void* begin, size_t bytes) {
  const uint8_t* first = static_cast<const uint8_t*>(begin);
  return first != nullptr && byte >= first && byte < first + bytes;
}

Guard::Guard(const Block& arena, const std::vector<std::shared_ptr<Block>>& states, const Step& step,
             size_t workspaceBytes, const std::string& label, bool paranoid)
    : arena_(arena), step_(step), workspaceBytes_(workspaceBytes), label_(label) {
  if (paranoid) {
    bool inPlace = false;
    for (const Tensor& input : step.inputs) inPlace = inPlace || input.data == step.output.data;
    if (!inPlace) arena.backend().fill(step.output.data, 0xff, step.output.bytes());
    if (workspaceBytes > 0) arena.backend().fill(step.workspace, 0xff, workspaceBytes);
    snapshots_.push_back({&arena, contentsOf(arena)});
    for (const auto& state : states) snapshots_.push_back({state.get(), contentsOf(*state)});
  }
#if defined(__SANITIZE_ADDRESS__)
  if (!arena.backend().hostMemory()) return;
  // Inputs that are still on their way would be stray writes.
  arena.backend().finish();
  ASAN_POISON_MEMORY_REGION(arena.data(), arena.bytes());
  for (const Tensor& input : step.inputs)
    if (inside(static_cast<uint8_t*>(input.data), arena.data(), arena.bytes()))
      ASAN_UNPOISON_MEMORY_REGION(input.data, input.bytes());
  ASAN_UNPOISON_MEMORY_REGION(step.output.data, step.output.bytes());
  if (workspaceBytes > 0) ASAN_UNPOISON_MEMORY_REGION(step.workspace, workspaceBytes);
#endif
}

Guard::~Guard() {
#if defined(__SANITIZE_ADDRESS__)
  if (arena_.backend().hostMemory()) ASAN_UNPOISON_MEMORY_REGION(arena_.data(), arena_.bytes());
#endif
}

void Guard::check() const {
#if defined(__SANITIZE_ADDRESS__)
  if (arena_.backend().hostMemory()) ASAN_UNPOISON_MEMORY_REGION(arena_.data(), arena_.bytes());
#endif
  for (const Snapshot& snapshot : snapshots_) {
    const std::vector<uint8_t> now = contentsOf(*snapshot.block);
    for (size_t i = 0; i < snapshot.bytes.size(); i++) {
      if (now[i] == snapshot.bytes[i]) continue;
      const uint8_t* where = snapshot.block->data() + i;
      if (inside(where, step_.output.data, step_.output.bytes())) continue;
      if (inside(where, step_.workspace, workspaceBytes_)) continue;
      bool updated = false;
      for (size_t input = 0; input < updatedInputs(step_); input++)
        updated = updated || inside(where, step_.inputs[input].data, step_.inputs[input].bytes());
      if (updated) continue;
      throw Error("ERR_STRAY_WRITE", label_ + " changed byte " + std::to_string(i) + " of " +
                                         (snapshot.block == &arena_ ? "the arena" : "a state") +
                                         ", outside its output");
    }
  }
}

}  // namespace voxgrad
