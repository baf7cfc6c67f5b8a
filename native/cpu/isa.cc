#include "isa.h"

#include <cstdlib>
#include <string>

#include "../core/tensor.h"

namespace voxgrad::cpu {

namespace portable {
const Conv3dKernels& conv3dKernels();
const WinogradKernels& winogradKernels();
}  // namespace portable
#if defined(__x86_64__)
namespace avx2 {
const Conv3dKernels& conv3dKernels();
const WinogradKernels& winogradKernels();
}  // namespace avx2
namespace avx512 {
const Conv3dKernels& conv3dKernels();
const WinogradKernels& winogradKernels();
}  // namespace avx512
#endif

namespace {

struct Choice {
  const char* name;
  const Conv3dKernels* conv3d;
  const WinogradKernels* winograd;
};

Choice choose() {
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
  if (hasAvx512 && (wish.empty() || wish == "avx512")) {
    return {"avx512", &avx512::conv3dKernels(), &avx512::winogradKernels()};
  }
  if (hasAvx2 && (wish.empty() || wish == "avx2")) {
    return {"avx2", &avx2::conv3dKernels(), &avx2::winogradKernels()};
  }
#endif
  if (wish == "avx512" || wish == "avx2") {
    throw Error("ERR_DEVICE", "VOXGRAD_ISA=" + wish + ": this processor does not have it; unset VOXGRAD_ISA");
  }
  return {"portable", &portable::conv3dKernels(), &portable::winogradKernels()};
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const Conv3dKernels& conv3dKernels() { return *choice().conv3d; }
const WinogradKernels& winogradKernels() { return *choice().winograd; }
const char* isaName() { return choice().name; }

}  // namespace voxgrad::cpu
