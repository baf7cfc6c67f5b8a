#include "device.h"

#include "../core/backend.h"
#include "buffer.h"
#include "decode.h"
#include "instance.h"
#include "plan.h"

namespace voxgrad::binding {

static const Backend& backendOf(const Napi::CallbackInfo& info) {
  return *static_cast<const Backend*>(info.Data());
}

// A question about a step: what `ask(backend, step)` yields, made a JavaScript value.
template <auto ask, class Make>
static Napi::Value answer(const Napi::CallbackInfo& info, Make make) {
  if (!info[0].IsObject()) throw toJs(info.Env(), "ERR_PLAN", "expected a step");
  return guarded(info.Env(), [&]() -> Napi::Value {
    return make(ask(backendOf(info), decodeStep(info[0].As<Napi::Object>())));
  });
}

static Napi::Value workspace(const Napi::CallbackInfo& info) {
  return answer<workspaceBytes>(
      info, [&](size_t bytes) { return Napi::Number::New(info.Env(), static_cast<double>(bytes)); });
}

static Napi::Value packedWeights(const Napi::CallbackInfo& info) {
  return answer<packedFloats>(
      info, [&](int64_t floats) { return Napi::Number::New(info.Env(), static_cast<double>(floats)); });
}

static Napi::Value algorithm(const Napi::CallbackInfo& info) {
  return answer<algorithmOf>(info,
                             [&](const std::string& name) { return Napi::String::New(info.Env(), name); });
}

template <auto ask>
static Napi::Value yesOrNo(const Napi::CallbackInfo& info) {
  return answer<ask>(info, [&](bool yes) { return Napi::Boolean::New(info.Env(), yes); });
}

static Napi::Array toArray(Napi::Env env, const std::vector<std::string>& texts) {
  Napi::Array list = Napi::Array::New(env, texts.size());
  for (uint32_t i = 0; i < texts.size(); i++) list.Set(i, texts[i]);
  return list;
}

static Napi::Value ways(const Napi::CallbackInfo& info) {
  return answer<waysOf>(info,
                        [&](const std::vector<std::string>& names) { return toArray(info.Env(), names); });
}

static Napi::Value kernels(const Napi::CallbackInfo& info) {
  return toArray(info.Env(), backendOf(info).kernelNames());
}

static Napi::Value describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), backendOf(info).describe()); });
}

static Napi::Value freeMemory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Number::New(info.Env(), static_cast<double>(backendOf(info).freeMemory()));
  });
}

static Napi::Value launches(const Napi::CallbackInfo& info) {
  Napi::Object counts = Napi::Object::New(info.Env());
  for (const auto& [name, count] : backendOf(info).launches()) counts.Set(name, static_cast<double>(count));
  return counts;
}

Napi::Value openDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Backend& backend = guarded(env, [&]() -> Backend& {
    return info[0].IsString() ? openBackend(info[0].As<Napi::String>().Utf8Value()) : cpuBackend();
  });
  Napi::Object device = Napi::Object::New(env);
  device.Set("name", backend.name());
  device.Set("Buffer", Buffer::define(env, backend));
  device.Set("Plan", PlanObject::define(env, backend));
  const auto method = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    device.Set(name, Napi::Function::New(env, call, name, &backend));
  };
  method("kernels", kernels);
  method("workspace", workspace);
  method("packedWeights", packedWeights);
  method("algorithm", algorithm);
  method("ways", ways);
  method("normalizes", yesOrNo<normalizes>);
  method("sums", yesOrNo<sums>);
  method("describe", describe);
  method("freeMemory", freeMemory);
  method("launches", launches);
  method("peak", peak);
  return device;
}

}  // namespace voxgrad::binding
