#include "../core/registry.h"

#include <map>

#include "kernels.h"

namespace voxgrad {

static const std::map<std::string, const Kernel*>& byName() {
  static const auto* kernels = [] {
    auto* map = new std::map<std::string, const Kernel*>;
    for (const cpu::KernelTable* family :
         {&cpu::activationKernels,   &cpu::argmaxKernels,         &cpu::arithmeticKernels,
          &cpu::augmentKernels,      &cpu::convKernels,           &cpu::copyKernels,
          &cpu::diceKernels,         &cpu::dropoutKernels,        &cpu::lossKernels,
          &cpu::momentsKernels,      &cpu::normGradientKernels,   &cpu::normKernels,
          &cpu::poolKernels,         &cpu::reduceKernels,         &cpu::resizeKernels,
          &cpu::segmentationKernels, &cpu::normalizedConvKernels, &cpu::selectKernels,
          &cpu::shapeKernels,        &cpu::softmaxKernels,        &cpu::summedConvKernels,
          &cpu::updateKernels})
      for (const Kernel& kernel : *family) map->emplace(kernel.name, &kernel);
    return map;
  }();
  return *kernels;
}

const Kernel* findKernel(const std::string& name) {
  auto found = byName().find(name);
  return found == byName().end() ? nullptr : found->second;
}

std::vector<std::string> kernelNames() {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : byName()) names.push_back(name);
  return names;
}

}  // namespace voxgrad
