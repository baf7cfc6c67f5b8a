// A plan as a JavaScript object.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "../core/plan.h"

namespace voxgrad::binding {

class PlanObject : public Napi::ObjectWrap<PlanObject> {
 public:
  static Napi::Function define(Napi::Env env, Backend& backend);
  explicit PlanObject(const Napi::CallbackInfo& info);

 private:
  // upload(typed arrays) -> what brings the inputs of one run to the device
  Napi::Value upload(const Napi::CallbackInfo& info);
  // start(typed arrays or upload) -> { promise of outputs, cancel() }
  Napi::Value start(const Napi::CallbackInfo& info);
  // time(inputs, runs) -> { promise of milliseconds, cancel() }
  Napi::Value time(const Napi::CallbackInfo& info);
  // profile(inputs, runs) -> the same, step by step
  Napi::Value profile(const Napi::CallbackInfo& info);
  // recordingState() -> "recorded", or why the steps are run one by one
  Napi::Value recordingState(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  using Measure = std::vector<double> (Plan::*)(Upload& inputs, int64_t runs,
                                                const std::atomic<bool>& cancelled);
  Napi::Value measure(const Napi::CallbackInfo& info, Measure how);
  const std::shared_ptr<Plan>& planOf(const Napi::CallbackInfo& info) const;

  std::shared_ptr<Plan> plan_;
};

}  // namespace voxgrad::binding
