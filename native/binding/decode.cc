#include "decode.h"

#include <cmath>

#include "buffer.h"

namespace voxgrad::binding {

Napi::Error toJs(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

static uint64_t whole(const Napi::Value& value, const char* what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0) || number > 9007199254740991.0 || number != std::floor(number))
    throw Error("ERR_PLAN", std::string(what) + " must be a whole number of at least 0");
  return static_cast<uint64_t>(number);
}

static std::string text(const Napi::Value& value, const char* what) {
  if (!value.IsString()) throw Error("ERR_PLAN", std::string(what) + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

static Napi::Object object(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) throw Error("ERR_PLAN", std::string(what) + " must be an object");
  return value.As<Napi::Object>();
}

static Napi::Array array(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) throw Error("ERR_PLAN", std::string(what) + " must be an array");
  return value.As<Napi::Array>();
}

static Tensor decodeTensor(const Napi::Object& from) {
  Tensor tensor;
  const std::string dtype = text(from.Get("dtype"), "dtype");
  if (dtype == "f32")
    tensor.dtype = DType::f32;
  else if (dtype == "u8")
    tensor.dtype = DType::u8;
  else if (dtype == "i32")
    tensor.dtype = DType::i32;
  else if (dtype == "bf16")
    tensor.dtype = DType::bf16;
  else
    throw Error("ERR_PLAN", "unknown dtype " + dtype);
  const Napi::Array shape = array(from.Get("shape"), "shape");
  if (shape.Length() > maxRank) throw Error("ERR_PLAN", "a tensor has at most 6 axes");
  tensor.rank = static_cast<int>(shape.Length());
  for (int axis = 0; axis < tensor.rank; axis++)
    tensor.shape[axis] = static_cast<int64_t>(whole(shape.Get(static_cast<uint32_t>(axis)), "extent"));
  return tensor;
}

static Place decodePlace(const Napi::Value& value) {
  const Napi::Object from = object(value, "a tensor");
  Place place;
  place.tensor = decodeTensor(from);
  const Napi::Value state = from.Get("state");
  if (!state.IsUndefined()) place.block = static_cast<int64_t>(whole(state, "state"));
  const Napi::Value offset = from.Get("offset");
  if (!offset.IsUndefined()) place.offset = whole(offset, "offset");
  return place;
}

static std::vector<Place> decodePlaces(const Napi::Value& value, const char* what) {
  const Napi::Array from = array(value, what);
  std::vector<Place> places;
  for (uint32_t i = 0; i < from.Length(); i++) places.push_back(decodePlace(from.Get(i)));
  return places;
}

static Attributes decodeAttributes(const Napi::Object& from) {
  Attributes attributes;
  const Napi::Array names = from.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = text(names.Get(i), "attribute name");
    const Napi::Value value = from.Get(name);
    std::vector<double> numbers;
    if (value.IsNumber()) {
      numbers.push_back(value.As<Napi::Number>().DoubleValue());
    } else if (value.IsBoolean()) {
      numbers.push_back(value.As<Napi::Boolean>().Value() ? 1 : 0);
    } else if (value.IsArray()) {
      const Napi::Array list = value.As<Napi::Array>();
      for (uint32_t k = 0; k < list.Length(); k++) {
        const Napi::Value number = list.Get(k);
        if (!number.IsNumber()) throw Error("ERR_PLAN", "attribute " + name + " must hold numbers");
        numbers.push_back(number.As<Napi::Number>().DoubleValue());
      }
    } else {
      continue;
    }
    attributes.set(name, std::move(numbers));
  }
  return attributes;
}

StepSpec decodeStep(const Napi::Object& from) {
  StepSpec step;
  step.kernel = text(from.Get("kernel"), "kernel");
  step.label = text(from.Get("label"), "label");
  step.inputs = decodePlaces(from.Get("inputs"), "inputs");
  step.output = decodePlace(from.Get("output"));
  step.attributes = decodeAttributes(object(from.Get("attributes"), "attributes"));
  const Napi::Value bytes = from.Get("workspaceBytes");
  if (!bytes.IsUndefined()) {
    step.workspaceBytes = whole(bytes, "workspaceBytes");
    step.workspaceOffset = whole(from.Get("workspaceOffset"), "workspaceOffset");
  }
  return step;
}

PlanSpec decodePlan(const Napi::Object& from) {
  PlanSpec plan;
  plan.arenaBytes = whole(from.Get("arenaBytes"), "arenaBytes");
  const Napi::Array states = array(from.Get("states"), "states");
  for (uint32_t i = 0; i < states.Length(); i++) plan.states.push_back(Buffer::blockOf(states.Get(i)));
  const Napi::Array steps = array(from.Get("steps"), "steps");
  for (uint32_t i = 0; i < steps.Length(); i++)
    plan.steps.push_back(decodeStep(object(steps.Get(i), "a step")));
  plan.inputs = decodePlaces(from.Get("inputs"), "inputs");
  plan.outputs = decodePlaces(from.Get("outputs"), "outputs");
  plan.prologue = whole(from.Get("prologue"), "prologue");
  plan.firstUpdate = whole(from.Get("firstUpdate"), "firstUpdate");
  plan.paranoid = from.Get("paranoid").ToBoolean().Value();
  plan.record = from.Get("record").ToBoolean().Value();
  return plan;
}

}  // namespace voxgrad::binding
