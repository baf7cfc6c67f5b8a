// JavaScript objects to plan structures. Every number is checked; nothing here allocates by a size it was
// given.
#pragma once

#include <napi.h>

#include "../core/plan.h"

namespace voxgrad::binding {

StepSpec decodeStep(const Napi::Object& object);
PlanSpec decodePlan(const Napi::Object& object);
Napi::Error toJs(Napi::Env env, const std::string& code, const std::string& message);

// What `call` returns; whatever native error it throws becomes a JavaScript error with a code.
template <class F>
decltype(auto) guarded(Napi::Env env, F call) {
  try {
    return call();
  } catch (const Error& error) {
    throw toJs(env, error.code(), error.what());
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw toJs(env, "ERR_NATIVE", error.what());
  }
}

}  // namespace voxgrad::binding
