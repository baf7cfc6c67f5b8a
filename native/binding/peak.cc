// What `voxgrad bench` asks of the addon besides plans.
#include <napi.h>

#include <cmath>

#include "decode.h"
#include "instance.h"

namespace voxgrad::binding {

static int64_t wholeUpTo(Napi::Env env, const Napi::Value& value, double most, const char* what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
  if (!(number >= 1) || number > most || number != std::floor(number))
    throw toJs(env, "ERR_PLAN",
               std::string(what) + ": expected a whole number from 1 to " + std::to_string(int64_t(most)));
  return static_cast<int64_t>(number);
}

int64_t runsOf(Napi::Env env, const Napi::Value& value) { return wholeUpTo(env, value, 1e6, "runs"); }

Napi::Value peak(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Backend& backend = *static_cast<Backend*>(info.Data());
  const std::string kind = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  if (kind != "multiplyAdd" && kind != "copy" && kind != "stream")
    throw toJs(env, "ERR_PLAN", "peak: expected multiplyAdd, copy or stream, found '" + kind + "'");
  const Limit limit = kind == "multiplyAdd" ? Limit::multiplyAdd
                      : kind == "copy"      ? Limit::copy
                                            : Limit::stream;
  const int64_t amount = wholeUpTo(env, info[1], 1e12, "peak: amount");
  const int64_t runs = runsOf(env, info[2]);
  auto times = std::make_shared<LimitTimes>();
  auto work = [&backend, limit, amount, runs, times](const std::atomic<bool>& cancelled) {
    *times = backend.measure(limit, amount, runs, cancelled);
  };
  auto finish = [times](Napi::Env env) -> Napi::Value {
    Napi::Object result = Napi::Object::New(env);
    result.Set("work", times->work);
    result.Set("milliseconds", toArray(env, times->milliseconds));
    return result;
  };
  return toObject(env, Instance::of(env).queue.submit(env, backend, work, finish));
}

}  // namespace voxgrad::binding
