#include "switch.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "the emulated device switches stacks on x86-64 and ARM64 alone"
#endif

namespace emulation {
namespace {

#if defined(__x86_64__)
constexpr int kept = 6;  // registers that a call preserves
#else
constexpr int kept = 20;
#endif

}  // namespace

extern "C" void voxgradSwitchStack(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.globl voxgradSwitchStack
.hidden voxgradSwitchStack
voxgradSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
asm(R"(
.text
.globl voxgradSwitchStack
.hidden voxgradSwitchStack
voxgradSwitchStack:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#endif

void switchStack(void** from, void* to) { voxgradSwitchStack(from, to); }

void* prepareStack(void* top, void (*entry)()) {
  void** stack = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
#if defined(__x86_64__)
  *--stack = nullptr;  // where `entry` would return to
  *--stack = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kept; i++) *--stack = nullptr;
#else
  stack -= kept;
  for (int i = 0; i < kept; i++) stack[i] = nullptr;
  stack[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  return stack;
}

}  // namespace emulation
