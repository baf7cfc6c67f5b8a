// VOXGRAD_CLONES before a function compiles its loops once for each x86 instruction set; the loader picks
// one. For plain loops over floats that the compiler vectorises. The function must not call inline library
// code.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define VOXGRAD_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), noinline))
#else
#define VOXGRAD_CLONES
#endif
