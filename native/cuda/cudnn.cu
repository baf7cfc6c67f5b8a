#include <dlfcn.h>

#include <cstdlib>

#include "cudnn.h"

namespace voxgrad::cuda::cudnn {
namespace {

constexpr const char* fileName = "libcudnn.so.9";
constexpr size_t least = 91500, behind = 100000;

struct Found {
  Library functions = {};
  bool usable = false;
  std::string text;
};

void* open(std::string* why) {
  const char* wanted = std::getenv("VOXGRAD_CUDNN");
#ifndef __CUDACC__
  // A library for GPUs can do nothing here: only one that a test brings.
  if (wanted == nullptr) wanted = "off";
#endif
  const std::string path = wanted != nullptr ? wanted : fileName;
  if (path == "off") {
    *why = "cuDNN is switched off";
    return nullptr;
  }
  for (const std::string& each : {path, path + "/" + fileName})
    if (void* library = dlopen(each.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  *why = wanted != nullptr ? "no cuDNN in " + path : "no cuDNN: the system knows no " + path;
  return nullptr;
}

template <class Function>
bool find(void* library, const char* name, Function& function, std::string* why) {
  function = reinterpret_cast<Function>(dlsym(library, (std::string("cudnn") + name).c_str()));
  if (function == nullptr) *why = std::string("no cuDNN 9: the library has no function cudnn") + name;
  return function != nullptr;
}

std::string format(size_t version) {
  const size_t major = version < 90000 ? version / 1000 : version / 10000;
  const size_t rest = version < 90000 ? version % 1000 : version % 10000;
  return "cuDNN " + std::to_string(major) + "." + std::to_string(rest / 100) + "." +
         std::to_string(rest % 100);
}

Found search() {
  Found found;
  void* const handle = open(&found.text);
  if (handle == nullptr) return found;
  Library& l = found.functions;
#define FIND(name) find(handle, #name, l.name, &found.text)
  if (!FIND(GetVersion)) return found;
  const size_t version = l.GetVersion();
  if (version < least || version >= behind) {
    found.text = format(version) + " is not used: 9.15 or later is needed, and below 10";
    return found;
  }
  if (FIND(GetErrorString) && FIND(Create) && FIND(SetStream) && FIND(BackendCreateDescriptor) &&
      FIND(BackendDestroyDescriptor) && FIND(BackendSetAttribute) && FIND(BackendGetAttribute) &&
      FIND(BackendFinalize) && FIND(BackendExecute)) {
    found.usable = true;
    found.text = format(version);
  }
#undef FIND
  return found;
}

const Found& found() {
  static const auto* found = new Found(search());
  return *found;
}

}  // namespace

const Library* library() { return found().usable ? &found().functions : nullptr; }

const std::string& describe() { return found().text; }

}  // namespace voxgrad::cuda::cudnn
