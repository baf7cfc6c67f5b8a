// What one environment owns, and the conversions between typed arrays and bytes.
#pragma once

#include <napi.h>

#include <vector>

#include "queue.h"

namespace voxgrad::binding {

struct Instance {
  explicit Instance(Napi::Env env) : queue(env) {}
  static Instance& of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  Queue queue;
};

// `value`, if it is a typed array over memory that no other thread shares; throws a JavaScript error for
// anything else.
Napi::Value expectTypedArray(Napi::Env env, const Napi::Value& value);
// The bytes behind one, until JavaScript runs again: it could detach them.
HostBytes bytesOf(const Napi::Value& typedArray);
Napi::ArrayBuffer toArrayBuffer(Napi::Env env, const std::vector<uint8_t>& bytes);
Napi::Array toArray(Napi::Env env, const std::vector<double>& numbers);
// { promise, cancel() } of queued work.
Napi::Object toObject(Napi::Env env, const Queue::Ticket& ticket);
// A number of runs to time, 1 to 10^6; throws a JavaScript error for anything else.
int64_t runsOf(Napi::Env env, const Napi::Value& value);
// peak(kind, amount, runs), of a device -> { promise of { work, milliseconds }, cancel() }
Napi::Value peak(const Napi::CallbackInfo& info);

}  // namespace voxgrad::binding
