#include "stream.h"

#include <cstdlib>
#include <cstring>

namespace emulation {

thread_local std::unique_ptr<Capture> capture;

State& state() {
  static auto* state = new State;
  return *state;
}

cudaError_t failure() {
  std::lock_guard<std::mutex> lock(state().mutex);
  return state().error;
}

static void fail(cudaError_t error, const std::string& why) {
  std::lock_guard<std::mutex> lock(state().mutex);
  if (state().error != cudaSuccess) return;
  state().error = error;
  state().why = why;
}

bool isPinned(const void* data) {
  std::lock_guard<std::mutex> lock(state().mutex);
  const auto* at = static_cast<const char*>(data);
  auto found = state().pinned.upper_bound(at);
  return found != state().pinned.begin() && at < (--found)->first + found->second;
}

cudaError_t spoilCapture() {
  capture->spoilt = true;
  return cudaErrorStreamCaptureUnsupported;
}

static bool isFaulty(const char* name) {
  const char* text = std::getenv("VOXGRAD_EMULATOR_FAULT");
  if (text == nullptr) return false;
  const char* number = std::strrchr(text, ':');
  if (number == nullptr || std::string(text, number) != name) return false;
  std::lock_guard<std::mutex> lock(state().mutex);
  return ++state().launches == std::atoll(number + 1);
}

void Stream::push(Work work) {
  if (capture != nullptr && capture->stream == this) {
    capture->graph->work.push_back(std::move(work));
    return;
  }
  std::lock_guard<std::mutex> lock(queueing_);
  queue_.push_back(std::move(work));
  pushed_++;
}

void Stream::drain(uint64_t until) {
  if (done_ >= until) return;
  std::lock_guard<std::mutex> lock(running_);
  while (done_ < until) {
    Work work;
    {
      std::lock_guard<std::mutex> lock(queueing_);
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    if (failure() == cudaSuccess) {
      try {
        work();
      } catch (const std::exception& error) {
        fail(cudaErrorLaunchFailure, error.what());
      }
    }
    done_++;
  }
}

static bool isUnrecordable(const char* name) {
  const char* unrecordable = std::getenv("VOXGRAD_EMULATOR_UNRECORDABLE");
  return capture != nullptr && unrecordable != nullptr && std::strcmp(unrecordable, name) == 0;
}

int enqueue(Stream* stream, const char* name, Work work) {
  if (failure() != cudaSuccess) return failure();
  if (isUnrecordable(name)) return spoilCapture();
  stream->push(std::move(work));
  return cudaSuccess;
}

int capability() {
  const char* text = std::getenv("VOXGRAD_EMULATOR_CAPABILITY");
  return text == nullptr ? 9 : std::atoi(text);
}

int cooperativeBlocks() {
  const char* text = std::getenv("VOXGRAD_EMULATOR_COOPERATIVE");
  return text == nullptr ? 3 : std::atoi(text);
}

int launchOn(Stream* stream, const char* name, Extent grid, Extent threads, size_t sharedBytes,
             std::function<void()> kernel, bool cooperative) {
  const size_t mostShared = (capability() < 9 ? 99 : 227) << 10;
  const char* limit = std::getenv("VOXGRAD_EMULATOR_GRID");
  const unsigned most = limit != nullptr ? std::strtoul(limit, nullptr, 10) : 65535;
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > most || grid.z == 0 || grid.z > most ||
      count == 0 || count > 1024 || threads.z > 64 || sharedBytes > mostShared)
    return cudaErrorInvalidConfiguration;
  if (cooperative && uint64_t{grid.x} * grid.y * grid.z > static_cast<uint64_t>(cooperativeBlocks()))
    return cudaErrorCooperativeLaunchTooLarge;
  if (failure() != cudaSuccess) return failure();
  if (isUnrecordable(name)) return spoilCapture();
  const auto work = [=] {
    if (isFaulty(name)) {
      fail(cudaErrorIllegalAddress, "an illegal memory access was encountered");
      return;
    }
    (cooperative ? launchCooperatively : launch)(
        grid, threads, sharedBytes,
        [](const void* context) { (*static_cast<const std::function<void()>*>(context))(); }, &kernel);
  };
  if (stream == nullptr)
    work();
  else
    stream->push(work);
  return cudaSuccess;
}

}  // namespace emulation
