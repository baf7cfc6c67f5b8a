// The running of a plan; plan.cc has checked it.
#include <algorithm>
#include <cmath>

#include "paranoia.h"
#include "plan.h"
#include "stopwatch.h"

namespace voxgrad {

static bool finite(const Tensor& tensor, const void* data) {
  const int64_t count = tensor.count();
  if (tensor.dtype == DType::bf16) {
    const auto* const halves = static_cast<const uint16_t*>(data);
    constexpr uint16_t exponent = 0x7f80;
    return std::none_of(halves, halves + count, [](uint16_t half) { return (half & exponent) == exponent; });
  }
  if (tensor.dtype != DType::f32) return true;
  const auto* const values = static_cast<const float*>(data);
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

std::unique_ptr<Upload> Plan::upload(const std::vector<HostBytes>& inputs) const {
  if (inputs.size() != inputs_.size()) throw Error("ERR_PLAN", "wrong number of plan inputs");
  for (size_t i = 0; i < inputs.size(); i++)
    if (inputs[i].bytes != inputs_[i].bytes())
      throw Error("ERR_PLAN", "plan input " + std::to_string(i) + ": expected " + format(inputs_[i]) +
                                  ", found " + std::to_string(inputs[i].bytes) + " bytes");
  return spec_.backend->upload(inputs);
}

void Plan::stage(Upload& inputs) {
  spec_.backend->announce("the inputs of a plan");
  for (size_t i = 0; i < inputs_.size(); i++) inputs.deliver(i, inputs_[i].data);
}

bool Plan::allFinite(const Tensor& tensor) {
  if (tensor.dtype != DType::f32 && tensor.dtype != DType::bf16) return true;
  if (spec_.backend->hostMemory()) {
    spec_.backend->finish();
    return finite(tensor, tensor.data);
  }
  std::vector<uint8_t> values(tensor.bytes());
  spec_.backend->copyOut(values.data(), tensor.data, tensor.bytes());
  return finite(tensor, values.data());
}

void Plan::readOutputs(std::vector<std::vector<uint8_t>>& outputs) {
  outputs.resize(outputs_.size());
  std::vector<Download> parts;
  for (size_t i = 0; i < outputs_.size(); i++) {
    outputs[i].resize(outputs_[i].bytes());
    parts.push_back({outputs[i].data(), outputs_[i].data, outputs[i].size()});
  }
  spec_.backend->download(parts);
}

void Plan::countWrites(size_t begin, size_t end) {
  const auto count = [this](const Place& place) {
    if (place.block != Place::arenaBlock) spec_.states[place.block]->countWrite();
  };
  for (size_t i = begin; i < end; i++) {
    std::vector<Reading*> renewed;
    for (Reading& reading : readings_)
      if (reading.isCurrent() && std::count(reading.updates.begin(), reading.updates.end(), i) > 0)
        renewed.push_back(&reading);
    count(spec_.steps[i].output);
    const size_t updated = updatedInputs(steps_[i]);
    for (size_t input = 0; input < updated; input++) count(spec_.steps[i].inputs[input]);
    for (Reading* reading : renewed) reading->version = reading->state->version();
  }
}

static void throwIf(const std::atomic<bool>* cancelled) {
  if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed))
    throw Error("ERR_ABORTED", "the run was cancelled");
}

void Plan::execute(size_t begin, size_t end, const std::atomic<bool>* cancelled, Care care) {
  for (size_t i = begin; i < end; i++) {
    throwIf(cancelled);
    const Step& step = steps_[i];
    const StepSpec& spec = spec_.steps[i];
    if (care == Care::findNotFinite) {
      for (size_t k = 0; k < step.inputs.size(); k++)
        if (spec.inputs[k].block != Place::arenaBlock && !allFinite(step.inputs[k]))
          throw Error("ERR_NOT_FINITE", "a state read by " + spec.label);
    }
    spec_.backend->announce(spec.label);
    {
      Guard guard(*arena_, spec_.states, step, spec.workspaceBytes, spec.label, spec_.paranoid);
      step.kernel->run(step);
      if (care != Care::none || spec_.paranoid || sanitized) spec_.backend->finish();
      guard.check();
    }
    countWrites(i, i + 1);
    if (care == Care::findNotFinite && !allFinite(step.output)) throw Error("ERR_NOT_FINITE", spec.label);
  }
}

void Plan::advance(size_t begin, size_t end, std::unique_ptr<Recording>& recording,
                   const std::atomic<bool>* cancelled) {
  if (begin == end) return;
  if (recording == nullptr && ran_ && mayRecord_) {
    std::string why;
    recording = spec_.backend->record(
        [&] {
          for (size_t i = begin; i < end; i++) {
            spec_.backend->announce(spec_.steps[i].label);
            steps_[i].kernel->run(steps_[i]);
          }
        },
        &why);
    mayRecord_ = recording != nullptr;
    std::lock_guard<std::mutex> lock(recordingMutex_);
    recordingState_ = mayRecord_ ? "recorded" : why;
  }
  if (recording == nullptr) {
    execute(begin, end, cancelled, ran_ ? Care::none : Care::finishEach);
    return;
  }
  throwIf(cancelled);
  spec_.backend->announce("the recorded steps of a plan");
  recording->replay();
  countWrites(begin, end);
}

void Plan::compute(const std::atomic<bool>* cancelled) {
  advance(spec_.prologue, spec_.firstUpdate, computing_, cancelled);
}

void Plan::update() { advance(spec_.firstUpdate, steps_.size(), updating_, nullptr); }

void Plan::runPrologue(const std::atomic<bool>* cancelled) {
  bool current = prologueRan_ && !spec_.paranoid;
  for (const Reading& reading : readings_) current = current && reading.isCurrent();
  if (current) return;
  prologueRan_ = false;
  execute(0, spec_.prologue, cancelled, ran_ ? Care::none : Care::finishEach);
  for (Reading& reading : readings_) reading.version = reading.state->version();
  prologueRan_ = true;
}

void Plan::run(Upload& inputs, std::vector<std::vector<uint8_t>>& outputs,
               const std::atomic<bool>& cancelled) {
  if (spec_.paranoid) poison(*arena_);
  stage(inputs);
  runPrologue(&cancelled);
  compute(&cancelled);
  const bool updates = spec_.firstUpdate < steps_.size();
  readOutputs(outputs);
  if (updates) {
    bool good = true;
    for (size_t i = 0; i < outputs_.size(); i++) good = good && finite(outputs_[i], outputs[i].data());
    if (!good) {
      stage(inputs);
      execute(0, spec_.firstUpdate, nullptr, Care::findNotFinite);
      throw Error("ERR_NOT_FINITE", "an input of the plan");
    }
    throwIf(&cancelled);
    update();
    if (!outputsStay_) readOutputs(outputs);
  }
  spec_.backend->finish();
  ran_ = true;
}

std::function<void()> Plan::beforeTimedRuns(Upload& inputs, const std::atomic<bool>& cancelled) {
  stage(inputs);
  runPrologue(&cancelled);
  bool survive = true;
  for (const Place& input : spec_.inputs) survive = survive && !isWritten(input, 0);
  if (survive) return [] {};
  return [this, &inputs] {
    stage(inputs);
    spec_.backend->finish();
  };
}

std::vector<double> Plan::time(Upload& inputs, int64_t runs, const std::atomic<bool>& cancelled) {
  const auto before = beforeTimedRuns(inputs, cancelled);
  return timeRuns(
      runs, cancelled,
      [this] {
        compute(nullptr);
        update();
        spec_.backend->finish();
        ran_ = true;
      },
      before);
}

std::vector<double> Plan::profile(Upload& inputs, int64_t runs, const std::atomic<bool>& cancelled) {
  const auto before = beforeTimedRuns(inputs, cancelled);
  std::vector<double> milliseconds;
  for (int64_t run = 0; run < runs; run++) {
    before();
    for (size_t i = spec_.prologue; i < steps_.size(); i++)
      milliseconds.push_back(timeRuns(1, cancelled, [&] {
                               execute(i, i + 1, nullptr, Care::none);
                               spec_.backend->finish();
                             }).front());
  }
  return milliseconds;
}

std::string Plan::recordingState() const {
  std::lock_guard<std::mutex> lock(recordingMutex_);
  return recordingState_;
}

}  // namespace voxgrad
