#include "buffer.h"

#include <cmath>
#include <vector>

#include "decode.h"
#include "instance.h"

namespace voxgrad::binding {

static constexpr napi_type_tag tag = {0x766f786772616421, 0x6275666665720001};

Napi::Function Buffer::define(Napi::Env env, Backend& backend) {
  return DefineClass(env, "Buffer",
                     {InstanceMethod("read", &Buffer::read), InstanceMethod("write", &Buffer::write),
                      InstanceMethod("dispose", &Buffer::dispose)},
                     &backend);
}

Buffer::Buffer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Buffer>(info) {
  const double bytes = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
  if (!(bytes >= 0) || bytes > 1099511627776.0 || bytes != std::floor(bytes))
    throw toJs(info.Env(), "ERR_PLAN", "Buffer: expected a whole number of bytes up to 2^40");
  Backend& backend = *static_cast<Backend*>(info.Data());
  block_ = guarded(info.Env(), [&] { return std::make_shared<Block>(backend, static_cast<size_t>(bytes)); });
  info.This().As<Napi::Object>().TypeTag(&tag);
}

std::shared_ptr<Block> Buffer::blockOf(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag))
    throw Error("ERR_PLAN", "a state must be a Buffer of this addon");
  Buffer* buffer = Unwrap(value.As<Napi::Object>());
  if (!buffer->block_) throw Error("ERR_DISPOSED", "the state's memory has been disposed of");
  return buffer->block_;
}

static std::shared_ptr<Block> alive(const Napi::CallbackInfo& info, const std::shared_ptr<Block>& block) {
  if (!block) throw toJs(info.Env(), "ERR_DISPOSED", "the state's memory has been disposed of");
  return block;
}

Napi::Value Buffer::read(const Napi::CallbackInfo& info) {
  auto block = alive(info, block_);
  auto copy = std::make_shared<std::vector<uint8_t>>();
  auto work = [block, copy](const std::atomic<bool>&) {
    copy->resize(block->bytes());
    block->backend().copyOut(copy->data(), block->data(), copy->size());
  };
  auto finish = [copy](Napi::Env env) -> Napi::Value { return toArrayBuffer(env, *copy); };
  return Instance::of(info.Env()).queue.submit(info.Env(), block->backend(), work, finish).promise;
}

Napi::Value Buffer::write(const Napi::CallbackInfo& info) {
  auto block = alive(info, block_);
  const HostBytes data = bytesOf(expectTypedArray(info.Env(), info[0]));
  if (data.bytes != block->bytes())
    throw toJs(info.Env(), "ERR_SHAPE",
               "Buffer.write: expected " + std::to_string(block->bytes()) + " bytes, found " +
                   std::to_string(data.bytes));
  const auto* first = static_cast<const uint8_t*>(data.data);
  auto copy = std::make_shared<std::vector<uint8_t>>(first, first + data.bytes);
  auto work = [block, copy](const std::atomic<bool>&) {
    block->backend().copyIn(block->data(), copy->data(), copy->size());
    block->countWrite();
  };
  auto finish = [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
  return Instance::of(info.Env()).queue.submit(info.Env(), block->backend(), work, finish).promise;
}

void Buffer::dispose(const Napi::CallbackInfo&) { block_ = nullptr; }

}  // namespace voxgrad::binding
