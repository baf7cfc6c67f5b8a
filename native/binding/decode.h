// JavaScript objects to plan structures. Every number is checked; nothing here allocates by a size it was
// given.
#pragma once

#include <napi.h>

#include "../core/plan.h"

namespace voxgrad::binding {

StepSpec decodeStep(const Napi::Object& object);
PlanSpec decodePlan(const Napi::Object& object);
Napi::Error toJs(Napi::Env env, const std::string& code, const std::string& message);

}  // namespace voxgrad::binding
