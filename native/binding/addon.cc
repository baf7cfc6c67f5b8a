// The addon's exports; lib/runtime/native.ts describes them in TypeScript.
#include <dlfcn.h>
#include <napi.h>

#include <cstring>

#include "../core/memory.h"
#include "../core/thread_pool.h"
#include "../cpu/isa.h"
#include "decode.h"
#include "device.h"
#include "instance.h"

namespace voxgrad::binding {

Napi::Value expectTypedArray(Napi::Env env, const Napi::Value& value) {
  if (!value.IsTypedArray()) throw toJs(env, "ERR_SHAPE", "expected a typed array");
  if (!value.As<Napi::TypedArray>().Get("buffer").IsArrayBuffer())
    throw toJs(env, "ERR_SHAPE", "expected a typed array over an ArrayBuffer; copy a shared one first");
  return value;
}

HostBytes bytesOf(const Napi::Value& typedArray) {
  const Napi::TypedArray array = typedArray.As<Napi::TypedArray>();
  if (array.ByteLength() == 0) return {nullptr, 0};
  return {static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
}

Napi::ArrayBuffer toArrayBuffer(Napi::Env env, const std::vector<uint8_t>& bytes) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.Data(), bytes.data(), bytes.size());
  return buffer;
}

Napi::Array toArray(Napi::Env env, const std::vector<double>& numbers) {
  Napi::Array list = Napi::Array::New(env, numbers.size());
  for (uint32_t i = 0; i < numbers.size(); i++) list.Set(i, numbers[i]);
  return list;
}

Napi::Object toObject(Napi::Env env, const Queue::Ticket& ticket) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", ticket.promise);
  result.Set("cancel", Napi::Function::New(env, [cancelled = ticket.cancelled](const Napi::CallbackInfo&) {
               *cancelled = true;
             }));
  return result;
}

static Napi::Value memory(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("blocks", static_cast<double>(Block::liveCount()));
  result.Set("bytes", static_cast<double>(Block::liveBytes()));
  return result;
}

static Napi::Value threads(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), ThreadPool::shared().size()); });
}

static Napi::Value isa(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), cpu::isaName()); });
}

// Node unloads an addon with the last worker that uses it; the device thread and the pool outlive every
// worker.
static void stayLoaded() {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&stayLoaded), &self) != 0)
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  stayLoaded();
  env.SetInstanceData(new Instance(env));
  exports.Set("open", Napi::Function::New(env, openDevice));
  exports.Set("memory", Napi::Function::New(env, memory));
  exports.Set("threads", Napi::Function::New(env, threads));
  exports.Set("isa", Napi::Function::New(env, isa));
  return exports;
}

NODE_API_MODULE(voxgrad, init)

}  // namespace voxgrad::binding
