// The kernels of a backend by name.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "tensor.h"

namespace voxgrad {

class KernelIndex {
 public:
  using Table = std::initializer_list<Kernel>;

  // Of tables that outlive it, one for each family.
  KernelIndex(std::initializer_list<const Table*> families) {
    for (const Table* family : families)
      for (const Kernel& kernel : *family) kernels_.emplace(kernel.name, &kernel);
  }

  // Null when there is no kernel of that name.
  const Kernel* find(const std::string& name) const {
    const auto found = kernels_.find(name);
    return found == kernels_.end() ? nullptr : found->second;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, kernel] : kernels_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, const Kernel*> kernels_;
};

}  // namespace voxgrad
