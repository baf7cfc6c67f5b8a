// A state's memory on the device, as a JavaScript object.
#pragma once

#include <napi.h>

#include <memory>

#include "../core/memory.h"

namespace voxgrad::binding {

class Buffer : public Napi::ObjectWrap<Buffer> {
 public:
  static Napi::Function define(Napi::Env env, Backend& backend);
  // Throws Error when the value is not a live Buffer of this addon.
  static std::shared_ptr<Block> blockOf(const Napi::Value& value);

  explicit Buffer(const Napi::CallbackInfo& info);

 private:
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Block> block_;
};

}  // namespace voxgrad::binding
