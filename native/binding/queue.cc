#include "queue.h"

#include "../core/device.h"
#include "../core/tensor.h"
#include "decode.h"

namespace voxgrad::binding {

struct Queue::Job {
  Queue* queue;
  Work work;
  Finish finish;
  Napi::Promise::Deferred deferred;
  std::shared_ptr<std::atomic<bool>> cancelled;
  std::string code;
  std::string message;
};

Queue::Queue(Napi::Env env) {
  callback_ = Callback::New(env, "voxgrad", 0, 1, static_cast<std::nullptr_t*>(nullptr));
  callback_.Unref(env);
  napi_add_env_cleanup_hook(env, cleanUp, this);
}

Queue::Ticket Queue::submit(Napi::Env env, const Backend& backend, Work work, Finish finish) {
  auto cancelled = std::make_shared<std::atomic<bool>>(false);
  auto* job =
      new Job{this, std::move(work), std::move(finish), Napi::Promise::Deferred::New(env), cancelled, "", ""};
  const Napi::Promise promise = job->deferred.Promise();
  if (unsettled_++ == 0) callback_.Ref(env);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    pending_++;
  }
  Device::of(backend).submit([this, job] {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      running_ = job->cancelled;
      if (closing_) *job->cancelled = true;
    }
    try {
      if (*job->cancelled) throw Error("ERR_ABORTED", "the run was cancelled before it began");
      job->work(*job->cancelled);
    } catch (const Error& error) {
      job->code = error.code();
      job->message = error.what();
    } catch (const std::exception& error) {
      job->code = "ERR_NATIVE";
      job->message = error.what();
    }
    // Under the lock, so that the environment cannot go away between the call and the count.
    std::lock_guard<std::mutex> lock(mutex_);
    running_ = nullptr;
    if (closing_ || callback_.NonBlockingCall(job) != napi_ok) delete job;
    if (--pending_ == 0) drained_.notify_all();
  });
  return {promise, cancelled};
}

void Queue::settle(Napi::Env env, Napi::Function, std::nullptr_t*, Job* job) {
  std::unique_ptr<Job> owned(job);
  if (env == nullptr) return;
  Napi::HandleScope scope(env);
  try {
    if (--job->queue->unsettled_ == 0) job->queue->callback_.Unref(env);
    if (!job->code.empty()) {
      job->deferred.Reject(toJs(env, job->code, job->message).Value());
      return;
    }
    Napi::Value value;
    try {
      value = job->finish(env);
    } catch (const Napi::Error& error) {
      job->deferred.Reject(error.Value());
      return;
    }
    job->deferred.Resolve(value);
  } catch (const Napi::Error&) {
    // A worker that is being terminated refuses every call; nobody is left to hear of the result.
  }
}

void Queue::cleanUp(void* data) {
  auto* self = static_cast<Queue*>(data);
  std::unique_lock<std::mutex> lock(self->mutex_);
  self->closing_ = true;
  if (self->running_) *self->running_ = true;
  self->drained_.wait(lock, [self] { return self->pending_ == 0; });
}

}  // namespace voxgrad::binding
