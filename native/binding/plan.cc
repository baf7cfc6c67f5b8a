#include "plan.h"

#include "decode.h"
#include "instance.h"

namespace voxgrad::binding {

Napi::Function PlanObject::define(Napi::Env env, Backend& backend) {
  return DefineClass(
      env, "Plan",
      {InstanceMethod("upload", &PlanObject::upload), InstanceMethod("start", &PlanObject::start),
       InstanceMethod("time", &PlanObject::time), InstanceMethod("profile", &PlanObject::profile),
       InstanceMethod("recordingState", &PlanObject::recordingState),
       InstanceMethod("dispose", &PlanObject::dispose)},
      &backend);
}

PlanObject::PlanObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PlanObject>(info) {
  if (!info[0].IsObject()) throw toJs(info.Env(), "ERR_PLAN", "Plan: expected a plan object");
  plan_ = guarded(info.Env(), [&] {
    PlanSpec spec = decodePlan(info[0].As<Napi::Object>());
    spec.backend = static_cast<Backend*>(info.Data());
    return std::make_shared<Plan>(std::move(spec));
  });
}

const std::shared_ptr<Plan>& PlanObject::planOf(const Napi::CallbackInfo& info) const {
  if (!plan_) throw toJs(info.Env(), "ERR_DISPOSED", "the plan has been disposed of");
  return plan_;
}

// An upload as JavaScript holds it, until a run takes it.
struct UploadHandle {
  std::weak_ptr<Plan> plan;
  std::shared_ptr<Upload> upload;
};
static constexpr napi_type_tag uploadTag = {0x766f786772616421, 0x75706c6f61640001};

static std::shared_ptr<Upload> begin(Napi::Env env, const Napi::Value& value, const Plan& plan) {
  if (!value.IsArray()) throw toJs(env, "ERR_PLAN", "inputs of a plan: expected an array of typed arrays");
  const Napi::Array from = value.As<Napi::Array>();
  std::vector<Napi::Value> arrays;
  for (uint32_t i = 0; i < from.Length(); i++) arrays.push_back(expectTypedArray(env, from.Get(i)));
  std::vector<HostBytes> parts;
  for (const Napi::Value& array : arrays) parts.push_back(bytesOf(array));
  return guarded(env, [&] { return plan.upload(parts); });
}

// The inputs of a run: an upload, which serves once, or arrays.
static std::shared_ptr<Upload> inputsOf(Napi::Env env, const Napi::Value& value,
                                        const std::shared_ptr<Plan>& plan) {
  if (!value.IsExternal()) return begin(env, value, *plan);
  const auto external = value.As<Napi::External<UploadHandle>>();
  if (!external.CheckTypeTag(&uploadTag)) throw toJs(env, "ERR_PLAN", "expected what `upload` returned");
  UploadHandle& handle = *external.Data();
  if (handle.plan.lock() != plan) throw toJs(env, "ERR_PLAN", "these inputs were uploaded for another plan");
  if (!handle.upload) throw toJs(env, "ERR_PLAN", "these inputs served a run before; upload them for each");
  return std::move(handle.upload);
}

Napi::Value PlanObject::upload(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto& plan = planOf(info);
  auto handle = std::make_unique<UploadHandle>(UploadHandle{plan, begin(env, info[0], *plan)});
  auto external = Napi::External<UploadHandle>::New(env, handle.release(),
                                                    [](Napi::Env, UploadHandle* handle) { delete handle; });
  external.TypeTag(&uploadTag);
  return external;
}

Napi::Value PlanObject::start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto plan = planOf(info);
  auto inputs = inputsOf(env, info[0], plan);
  auto outputs = std::make_shared<std::vector<std::vector<uint8_t>>>();

  auto work = [plan, inputs, outputs](const std::atomic<bool>& cancelled) {
    plan->run(*inputs, *outputs, cancelled);
  };
  auto finish = [outputs](Napi::Env env) -> Napi::Value {
    Napi::Array list = Napi::Array::New(env, outputs->size());
    for (uint32_t i = 0; i < outputs->size(); i++) list.Set(i, toArrayBuffer(env, (*outputs)[i]));
    return list;
  };
  return toObject(env, Instance::of(env).queue.submit(env, *plan->spec().backend, work, finish));
}

Napi::Value PlanObject::measure(const Napi::CallbackInfo& info, Measure how) {
  const Napi::Env env = info.Env();
  const auto plan = planOf(info);
  const int64_t runs = runsOf(env, info[1]);
  auto inputs = inputsOf(env, info[0], plan);
  auto times = std::make_shared<std::vector<double>>();
  auto work = [plan, inputs, runs, times, how](const std::atomic<bool>& cancelled) {
    *times = (*plan.*how)(*inputs, runs, cancelled);
  };
  auto finish = [times](Napi::Env env) -> Napi::Value { return toArray(env, *times); };
  return toObject(env, Instance::of(env).queue.submit(env, *plan->spec().backend, work, finish));
}

Napi::Value PlanObject::recordingState(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), planOf(info)->recordingState());
}

Napi::Value PlanObject::time(const Napi::CallbackInfo& info) { return measure(info, &Plan::time); }

Napi::Value PlanObject::profile(const Napi::CallbackInfo& info) { return measure(info, &Plan::profile); }

void PlanObject::dispose(const Napi::CallbackInfo&) { plan_ = nullptr; }

}  // namespace voxgrad::binding
