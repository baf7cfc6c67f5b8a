// A plan as a JavaScript object.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "../core/plan.h"

namespace voxgrad::binding {

class PlanObject : public Napi::ObjectWrap<PlanObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit PlanObject(const Napi::CallbackInfo& info);

 private:
  // start(inputs) -> { promise, cancel() }
  Napi::Value start(const Napi::CallbackInfo& info);
  // time(inputs, runs) -> { promise of milliseconds, cancel() }
  Napi::Value time(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<std::vector<std::vector<uint8_t>>> inputsOf(const Napi::CallbackInfo& info) const;

  std::shared_ptr<Plan> plan_;
};

}  // namespace voxgrad::binding
