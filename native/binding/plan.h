// A plan as a JavaScript object.
#pragma once

#include <napi.h>

#include <memory>

#include "../core/plan.h"

namespace voxgrad::binding {

class PlanObject : public Napi::ObjectWrap<PlanObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit PlanObject(const Napi::CallbackInfo& info);

 private:
  // start(inputs) -> { promise, cancel() }
  Napi::Value start(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Plan> plan_;
};

}  // namespace voxgrad::binding
