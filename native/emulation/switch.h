// Changing from one stack to another.
#pragma once

#include <cstdint>

namespace emulation {

// Goes on where the stack `to` was left, and keeps this one in *from.
void switchStack(void** from, void* to);
// A stack below `top` on which the first switch calls `entry`, which must never return.
void* prepareStack(void* top, void (*entry)());

}  // namespace emulation
