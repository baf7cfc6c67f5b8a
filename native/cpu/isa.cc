#include "isa.h"

#include <cstdlib>
#include <string>

#include "../core/tensor.h"

namespace voxgrad::cpu {

// The tables of one instruction set, each compiled with its flags.
struct KernelSet {
  const char* name;
  const Conv3dKernels* conv3d;
  const FusedLossKernels* fusedLoss;
  const SoftmaxRowKernels* softmaxRows;
  const WinogradKernels* winograd;
  const PeakKernels* peak;
};

#define VOXGRAD_KERNEL_SET(isa)                                                                             \
  namespace isa {                                                                                           \
  const Conv3dKernels& conv3dKernels();                                                                     \
  const FusedLossKernels& fusedLossKernels();                                                               \
  const SoftmaxRowKernels& softmaxRowKernels();                                                             \
  const WinogradKernels& winogradKernels();                                                                 \
  const PeakKernels& peakKernels();                                                                         \
  static KernelSet kernelSet() {                                                                            \
    return {#isa,          &conv3dKernels(), &fusedLossKernels(), &softmaxRowKernels(), &winogradKernels(), \
            &peakKernels()};                                                                                \
  }                                                                                                         \
  }

VOXGRAD_KERNEL_SET(portable)
#if defined(__x86_64__)
VOXGRAD_KERNEL_SET(avx2)
VOXGRAD_KERNEL_SET(avx512)
#endif

static KernelSet choose() {
  const char* asked = std::getenv("VOXGRAD_ISA");
  const std::string wish = asked ? asked : "";
  if (!wish.empty() && wish != "avx512" && wish != "avx2" && wish != "portable") {
    throw Error("ERR_DEVICE", "VOXGRAD_ISA: expected avx512, avx2 or portable, found '" + wish + "'");
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool hasAvx512 = hasAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (hasAvx512 && (wish.empty() || wish == "avx512")) return avx512::kernelSet();
  if (hasAvx2 && (wish.empty() || wish == "avx2")) return avx2::kernelSet();
#endif
  if (wish == "avx512" || wish == "avx2") {
    throw Error("ERR_DEVICE", "VOXGRAD_ISA=" + wish + ": this processor does not have it; unset VOXGRAD_ISA");
  }
  return portable::kernelSet();
}

static const KernelSet& chosen() {
  static const KernelSet set = choose();
  return set;
}

const Conv3dKernels& conv3dKernels() { return *chosen().conv3d; }
const FusedLossKernels& fusedLossKernels() { return *chosen().fusedLoss; }
const SoftmaxRowKernels& softmaxRowKernels() { return *chosen().softmaxRows; }
const WinogradKernels& winogradKernels() { return *chosen().winograd; }
const PeakKernels& peakKernels() { return *chosen().peak; }
const char* isaName() { return chosen().name; }

}  // namespace voxgrad::cpu
