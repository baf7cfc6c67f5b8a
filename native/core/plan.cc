#include "plan.h"

#include <cmath>
#include <cstring>

#include "paranoia.h"
#include "stopwatch.h"

namespace voxgrad {

static void checkExtents(const Tensor& tensor, const std::string& where) {
  uint64_t bytes = bytesOf(tensor.dtype);
  for (int axis = 0; axis < tensor.rank; axis++) {
    const int64_t extent = tensor.shape[axis];
    if (extent < 1) throw Error("ERR_PLAN", where + ": extents must be positive, found " + format(tensor));
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes) || bytes > (uint64_t{1} << 40))
      throw Error("ERR_PLAN", where + ": " + format(tensor) + " is larger than 2^40 bytes");
  }
}

static Step bind(const Backend& backend, const StepSpec& spec) {
  Step step;
  step.kernel = backend.find(spec.kernel);
  if (step.kernel == nullptr)
    throw Error("ERR_PLAN", std::string("device ") + backend.name() + " has no kernel called " + spec.kernel);
  for (const Place& input : spec.inputs) {
    checkExtents(input.tensor, spec.label);
    step.inputs.push_back(input.tensor);
  }
  checkExtents(spec.output.tensor, spec.label);
  step.output = spec.output.tensor;
  step.attributes = spec.attributes;
  return step;
}

// The step as the CPU's kernel of that name would have to run it.
static Step contractOf(const Step& step) {
  const uint32_t narrow = step.kernel->narrow;
  bool some = false, all = true;
  const auto look = [&](const Tensor& tensor) {
    some = some || tensor.dtype == DType::bf16;
    all = all && tensor.dtype == DType::bf16;
  };
  for (size_t i = 0; i < step.inputs.size() && i < 31; i++)
    if (narrow >> i & 1) look(step.inputs[i]);
  if (narrow & outputBit) look(step.output);
  if (some && !all) refuse(step, "some activations are bf16 and some are not");
  return some ? widened(step, narrow) : step;
}

static size_t prepare(const Step& step) {
  const Kernel& kernel = *step.kernel;
  if (kernel.prepare != nullptr) return kernel.prepare(step);
  const Kernel* contract = cpuBackend().find(kernel.name);
  if (contract == nullptr) refuse(step, "no kernel says which steps are safe");
  contract->prepare(contractOf(step));
  return kernel.workspace != nullptr ? kernel.workspace(step) : 0;
}

size_t workspaceBytes(const Backend& backend, const StepSpec& spec) { return prepare(bind(backend, spec)); }

static bool overlap(const Place& place, uint64_t offset, uint64_t bytes) {
  return place.block == Place::arenaBlock && place.offset < offset + bytes &&
         offset < place.offset + place.tensor.bytes();
}

int64_t packedFloats(const Backend& backend, const StepSpec& spec) {
  const Step step = bind(backend, spec);
  if (!step.kernel->packedFloats) refuse(step, "packs no weights");
  return step.kernel->packedFloats(step);
}

std::string algorithmOf(const Backend& backend, const StepSpec& spec) {
  const Step step = bind(backend, spec);
  prepare(step);
  return step.kernel->algorithm ? step.kernel->algorithm(step) : "";
}

bool normalizes(const Backend& backend, const StepSpec& spec) {
  const Step step = bind(backend, spec);
  prepare(step);
  return step.kernel->normalizes && step.kernel->normalizes(step);
}

bool sums(const Backend& backend, const StepSpec& spec) {
  const Step step = bind(backend, spec);
  prepare(step);
  return step.kernel->sums && step.kernel->sums(step);
}

// Kernels keep tables of indices in their workspace: nothing else may be written there meanwhile.
static void expectApart(const Place& workspace, const Place& other, const std::string& where) {
  if (overlap(other, workspace.offset, workspace.tensor.bytes()))
    throw Error("ERR_PLAN", where + ": the workspace overlaps " + format(other.tensor));
}

Plan::Plan(PlanSpec spec) : spec_(std::move(spec)) {
  for (const auto& state : spec_.states)
    if (&state->backend() != spec_.backend) throw Error("ERR_PLAN", "a state lies on another device");
  arena_ = std::make_unique<Block>(*spec_.backend, spec_.arenaBytes);
  for (const StepSpec& each : spec_.steps) {
    Step step = bind(*spec_.backend, each);
    const size_t needed = prepare(step);
    if (needed > each.workspaceBytes)
      throw Error("ERR_PLAN", each.label + ": needs " + std::to_string(needed) +
                                  " bytes of workspace, found " + std::to_string(each.workspaceBytes));
    for (size_t i = 0; i < each.inputs.size(); i++) step.inputs[i].data = resolve(each.inputs[i], each.label);
    step.output.data = resolve(each.output, each.label);
    if (each.workspaceBytes > 0) {
      Place workspace;
      workspace.tensor.dtype = DType::u8;
      workspace.tensor.rank = 1;
      workspace.tensor.shape[0] = static_cast<int64_t>(each.workspaceBytes);
      workspace.offset = each.workspaceOffset;
      step.workspace = resolve(workspace, each.label + " (workspace)");
      for (const Place& input : each.inputs) expectApart(workspace, input, each.label);
      expectApart(workspace, each.output, each.label);
    }
    steps_.push_back(std::move(step));
  }
  const auto place = [this](const Place& each, const char* what) {
    checkExtents(each.tensor, what);
    Tensor tensor = each.tensor;
    tensor.data = resolve(each, what);
    return tensor;
  };
  for (const Place& each : spec_.inputs) inputs_.push_back(place(each, "plan input"));
  for (const Place& each : spec_.outputs) outputs_.push_back(place(each, "plan output"));
  if (spec_.firstUpdate > steps_.size()) throw Error("ERR_PLAN", "firstUpdate lies behind the last step");
  if (spec_.prologue > spec_.firstUpdate) throw Error("ERR_PLAN", "the prologue reaches behind firstUpdate");
  for (size_t i = 0; i < spec_.prologue; i++)
    for (const Place& input : spec_.steps[i].inputs)
      if (input.block != Place::arenaBlock) prologueStates_.emplace_back(spec_.states[input.block].get(), 0);
}

void* Plan::resolve(const Place& place, const std::string& where) const {
  const Block* block = arena_.get();
  if (place.block != Place::arenaBlock) {
    if (place.block < 0 || place.block >= static_cast<int64_t>(spec_.states.size()))
      throw Error("ERR_PLAN", where + ": there is no state " + std::to_string(place.block));
    block = spec_.states[place.block].get();
  }
  const uint64_t bytes = place.tensor.bytes();
  if (place.offset % bytesOf(place.tensor.dtype) != 0 || place.offset > block->bytes() ||
      bytes > block->bytes() - place.offset)
    throw Error("ERR_PLAN", where + ": " + format(place.tensor) + " at " + std::to_string(place.offset) +
                                " lies outside its memory of " + std::to_string(block->bytes()) + " bytes");
  return block->data() + place.offset;
}

void Plan::stage(const std::vector<std::vector<uint8_t>>& inputs) {
  if (inputs.size() != inputs_.size()) throw Error("ERR_PLAN", "wrong number of plan inputs");
  for (size_t i = 0; i < inputs.size(); i++) {
    if (inputs[i].size() != inputs_[i].bytes())
      throw Error("ERR_PLAN", "plan input " + std::to_string(i) + ": expected " + format(inputs_[i]) +
                                  ", found " + std::to_string(inputs[i].size()) + " bytes");
    spec_.backend->copyIn(inputs_[i].data, inputs[i].data(), inputs[i].size());
  }
}

bool Plan::allFinite(const Tensor& tensor) {
  const bool narrow = tensor.dtype == DType::bf16;
  if (tensor.dtype != DType::f32 && !narrow) return true;
  const int64_t count = tensor.count();
  const void* values = tensor.data;
  if (!spec_.backend->hostMemory()) {
    checked_.resize(tensor.bytes());
    spec_.backend->copyOut(checked_.data(), tensor.data, tensor.bytes());
    values = checked_.data();
  }
  const auto* const floats = static_cast<const float*>(values);
  const auto* const halves = static_cast<const uint16_t*>(values);
  constexpr uint16_t exponent = 0x7f80;
  for (int64_t i = 0; i < count; i++)
    if (narrow ? (halves[i] & exponent) == exponent : !std::isfinite(floats[i])) return false;
  return true;
}

bool Plan::outputsFinite() {
  for (const Tensor& output : outputs_)
    if (!allFinite(output)) return false;
  return true;
}

void Plan::countWrite(const Place& place) const {
  if (place.block != Place::arenaBlock) spec_.states[place.block]->countWrite();
}

void Plan::execute(size_t begin, size_t end, const std::atomic<bool>* cancelled, bool findNotFinite) {
  for (size_t i = begin; i < end; i++) {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed))
      throw Error("ERR_ABORTED", "the run was cancelled");
    const Step& step = steps_[i];
    if (findNotFinite) {
      for (size_t k = 0; k < step.inputs.size(); k++)
        if (spec_.steps[i].inputs[k].block != Place::arenaBlock && !allFinite(step.inputs[k]))
          throw Error("ERR_NOT_FINITE", "a state read by " + spec_.steps[i].label);
    }
    {
      Guard guard(*arena_, spec_.states, step, spec_.steps[i].workspaceBytes, spec_.steps[i].label,
                  spec_.paranoid);
      step.kernel->run(step);
      guard.check();
    }
    countWrite(spec_.steps[i].output);
    for (size_t input = 0; input < updatedInputs(step); input++) countWrite(spec_.steps[i].inputs[input]);
    if (findNotFinite && !allFinite(step.output)) throw Error("ERR_NOT_FINITE", spec_.steps[i].label);
  }
}

void Plan::runPrologue(const std::atomic<bool>* cancelled) {
  bool current = prologueRan_ && !spec_.paranoid;
  for (const auto& [block, version] : prologueStates_) current = current && block->version() == version;
  if (current) return;
  prologueRan_ = false;
  execute(0, spec_.prologue, cancelled, false);
  for (auto& [block, version] : prologueStates_) version = block->version();
  prologueRan_ = true;
}

void Plan::run(const std::vector<std::vector<uint8_t>>& inputs, std::vector<std::vector<uint8_t>>& outputs,
               const std::atomic<bool>& cancelled) {
  if (spec_.paranoid) poison(*arena_);
  stage(inputs);
  runPrologue(&cancelled);
  execute(spec_.prologue, spec_.firstUpdate, &cancelled, false);
  if (spec_.firstUpdate < steps_.size()) {
    if (!outputsFinite()) {
      stage(inputs);
      execute(0, spec_.firstUpdate, nullptr, true);
      throw Error("ERR_NOT_FINITE", "an input of the plan");
    }
    execute(spec_.firstUpdate, steps_.size(), nullptr, false);
  }
  spec_.backend->finish();
  outputs.resize(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); i++) {
    outputs[i].resize(outputs_[i].bytes());
    spec_.backend->copyOut(outputs[i].data(), outputs_[i].data, outputs_[i].bytes());
  }
}

bool Plan::inputsSurvive() const {
  for (const Place& input : spec_.inputs) {
    const auto writtenBy = [&input](const Place& place) {
      return place.block == Place::arenaBlock && overlap(input, place.offset, place.tensor.bytes());
    };
    for (size_t i = 0; i < steps_.size(); i++) {
      const StepSpec& step = spec_.steps[i];
      if (writtenBy(step.output) || overlap(input, step.workspaceOffset, step.workspaceBytes)) return false;
      for (size_t updated = 0; updated < updatedInputs(steps_[i]); updated++)
        if (writtenBy(step.inputs[updated])) return false;
    }
  }
  return true;
}

std::function<void()> Plan::beforeTimedRuns(const std::vector<std::vector<uint8_t>>& inputs,
                                            const std::atomic<bool>& cancelled) {
  stage(inputs);
  runPrologue(&cancelled);
  if (inputsSurvive()) return [] {};
  return [this, &inputs] { stage(inputs); };
}

std::vector<double> Plan::time(const std::vector<std::vector<uint8_t>>& inputs, int64_t runs,
                               const std::atomic<bool>& cancelled) {
  const auto before = beforeTimedRuns(inputs, cancelled);
  return timeRuns(
      runs, cancelled,
      [this] {
        execute(spec_.prologue, steps_.size(), nullptr, false);
        spec_.backend->finish();
      },
      before);
}

std::vector<double> Plan::profile(const std::vector<std::vector<uint8_t>>& inputs, int64_t runs,
                                  const std::atomic<bool>& cancelled) {
  const auto before = beforeTimedRuns(inputs, cancelled);
  std::vector<double> milliseconds;
  for (int64_t run = 0; run < runs; run++) {
    before();
    for (size_t i = spec_.prologue; i < steps_.size(); i++)
      milliseconds.push_back(timeRuns(1, cancelled, [&] {
                               execute(i, i + 1, nullptr, false);
                               spec_.backend->finish();
                             }).front());
  }
  return milliseconds;
}

}  // namespace voxgrad
