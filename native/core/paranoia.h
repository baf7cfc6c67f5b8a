// What tests switch on to catch kernels that read what nobody wrote or write where they may not.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "tensor.h"

namespace voxgrad {

// Whether AddressSanitizer looks on.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

// Fills a block with NaN (as floats; 0xff as bytes).
void poison(const Block& block);

// Around one kernel call. In paranoid mode the output and workspace are NaN before the call (unless the
// kernel works in place), and check() throws when a byte outside of them, and of an input that the kernel
// updates, has changed. In an AddressSanitizer build, everything in the arena that the step does not name is
// unreadable meanwhile.
class Guard {
 public:
  Guard(const Block& arena, const std::vector<std::shared_ptr<Block>>& states, const Step& step,
        size_t workspaceBytes, const std::string& label, bool paranoid);
  ~Guard();
  void check() const;

 private:
  struct Snapshot {
    const Block* block;
    std::vector<uint8_t> bytes;
  };

  const Block& arena_;
  const Step& step_;
  const size_t workspaceBytes_;
  const std::string& label_;
  std::vector<Snapshot> snapshots_;
};

}  // namespace voxgrad
