#include "plan.h"

#include "decode.h"
#include "instance.h"

namespace voxgrad::binding {

Napi::Function PlanObject::define(Napi::Env env, Backend& backend) {
  return DefineClass(
      env, "Plan",
      {InstanceMethod("start", &PlanObject::start), InstanceMethod("time", &PlanObject::time),
       InstanceMethod("profile", &PlanObject::profile), InstanceMethod("dispose", &PlanObject::dispose)},
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

std::shared_ptr<std::vector<std::vector<uint8_t>>> PlanObject::inputsOf(
    const Napi::CallbackInfo& info) const {
  const Napi::Env env = info.Env();
  if (!plan_) throw toJs(env, "ERR_DISPOSED", "the plan has been disposed of");
  if (!info[0].IsArray()) throw toJs(env, "ERR_PLAN", "a run of a plan: expected an array of typed arrays");
  const Napi::Array arrays = info[0].As<Napi::Array>();
  auto inputs = std::make_shared<std::vector<std::vector<uint8_t>>>();
  for (uint32_t i = 0; i < arrays.Length(); i++) inputs->push_back(copyOf(env, arrays.Get(i)));
  return inputs;
}

Napi::Value PlanObject::start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto inputs = inputsOf(info);
  auto outputs = std::make_shared<std::vector<std::vector<uint8_t>>>();

  auto work = [plan = plan_, inputs, outputs](const std::atomic<bool>& cancelled) {
    plan->run(*inputs, *outputs, cancelled);
  };
  auto finish = [outputs](Napi::Env env) -> Napi::Value {
    Napi::Array list = Napi::Array::New(env, outputs->size());
    for (uint32_t i = 0; i < outputs->size(); i++) list.Set(i, toArrayBuffer(env, (*outputs)[i]));
    return list;
  };
  return toObject(env, Instance::of(env).queue.submit(env, *plan_->spec().backend, work, finish));
}

Napi::Value PlanObject::measure(const Napi::CallbackInfo& info, Measure how) {
  const Napi::Env env = info.Env();
  auto inputs = inputsOf(info);
  const int64_t runs = runsOf(env, info[1]);
  auto times = std::make_shared<std::vector<double>>();
  auto work = [plan = plan_, inputs, runs, times, how](const std::atomic<bool>& cancelled) {
    *times = (*plan.*how)(*inputs, runs, cancelled);
  };
  auto finish = [times](Napi::Env env) -> Napi::Value { return toArray(env, *times); };
  return toObject(env, Instance::of(env).queue.submit(env, *plan_->spec().backend, work, finish));
}

Napi::Value PlanObject::time(const Napi::CallbackInfo& info) { return measure(info, &Plan::time); }

Napi::Value PlanObject::profile(const Napi::CallbackInfo& info) { return measure(info, &Plan::profile); }

void PlanObject::dispose(const Napi::CallbackInfo&) { plan_ = nullptr; }

}  // namespace voxgrad::binding
