#include "isa.h"

#include <cstdlib>
#include <string>

#include "../core/tensor.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace voxgrad::cpu {
namespace {

struct KernelSet {
  const char* name;
#define VOXGRAD_TABLE_MEMBER(Type, name) const Type* name;
  VOXGRAD_KERNEL_TABLES(VOXGRAD_TABLE_MEMBER)
  bool amx = false;
};

}  // namespace

#define VOXGRAD_TABLE_ADDRESS(Type, name) , &name()
#define VOXGRAD_KERNEL_SET(isa)                                                                       \
  namespace isa {                                                                                     \
  VOXGRAD_KERNEL_TABLES(VOXGRAD_DECLARE_TABLE)                                                        \
  static KernelSet kernelSet() { return {#isa VOXGRAD_KERNEL_TABLES(VOXGRAD_TABLE_ADDRESS), false}; } \
  }

VOXGRAD_KERNEL_SET(portable)
#if defined(__x86_64__)
VOXGRAD_KERNEL_SET(avx2)
VOXGRAD_KERNEL_SET(avx512)
#endif

namespace {

#if defined(__x86_64__)
// Whether the processor has the matrix unit and Linux lets this process use it: its registers are large, and
// no thread has them before the process has asked.
bool allowsAmx() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kBf16) || !(d & kTile)) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

KernelSet choose() {
  const char* asked = std::getenv("VOXGRAD_ISA");
  const std::string wish = asked ? asked : "";
  if (!wish.empty() && wish != "amx" && wish != "avx512" && wish != "avx2" && wish != "portable") {
    throw Error("ERR_DEVICE", "VOXGRAD_ISA: expected amx, avx512, avx2 or portable, found '" + wish + "'");
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool hasAvx512 = hasAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (hasAvx512 && (wish.empty() || wish == "amx") && allowsAmx()) {
    KernelSet set = avx512::kernelSet();
    set.name = "amx";
    set.amx = true;
    return set;
  }
  if (hasAvx512 && (wish.empty() || wish == "avx512")) return avx512::kernelSet();
  if (hasAvx2 && (wish.empty() || wish == "avx2")) return avx2::kernelSet();
#endif
  if (!wish.empty() && wish != "portable") {
    throw Error("ERR_DEVICE", "VOXGRAD_ISA=" + wish + ": this processor does not have it; unset VOXGRAD_ISA");
  }
  return portable::kernelSet();
}

const KernelSet& chosen() {
  static const KernelSet set = choose();
  return set;
}

}  // namespace

#define VOXGRAD_CHOSEN_TABLE(Type, name) \
  const Type& name() { return *chosen().name; }
VOXGRAD_KERNEL_TABLES(VOXGRAD_CHOSEN_TABLE)

const char* isaName() { return chosen().name; }
bool usesAmx() { return chosen().amx; }

}  // namespace voxgrad::cpu
