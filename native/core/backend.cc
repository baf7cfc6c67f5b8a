#include "backend.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace voxgrad {

Backend& openBackend(const std::string& path) {
  static std::mutex mutex;
  static auto* opened = new std::map<std::string, Backend*>;
  std::lock_guard<std::mutex> lock(mutex);
  auto found = opened->find(path);
  if (found != opened->end()) return *found->second;

  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error("ERR_DEVICE", dlerror());
  const auto entry = reinterpret_cast<BackendEntry>(dlsym(library, backendEntryName));
  if (entry == nullptr) throw Error("ERR_DEVICE", path + " is not a backend of voxgrad");
  std::string why;
  Backend* backend = entry(backendBuild().c_str(), &why);
  if (backend == nullptr) throw Error("ERR_DEVICE", path + ": " + why);
  opened->emplace(path, backend);
  return *backend;
}

}  // namespace voxgrad
