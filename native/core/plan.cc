#include "plan.h"

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

std::vector<std::string> waysOf(const Backend& backend, const StepSpec& spec) {
  const Step step = bind(backend, spec);
  prepare(step);
  return step.kernel->ways ? step.kernel->ways(step) : std::vector<std::string>();
}

// Kernels keep tables of indices in their workspace: nothing else may be written there meanwhile.
static void expectApart(const Place& workspace, const Place& other, const std::string& where) {
  if (other.overlaps(workspace))
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
      const Place workspace = each.workspace();
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
      if (input.block != Place::arenaBlock)
        readings_.push_back({spec_.states[input.block].get(), updatesOf(spec_.steps[i].output)});
  for (const Place& output : spec_.outputs)
    outputsStay_ = outputsStay_ && !isWritten(output, spec_.firstUpdate);
  mayRecord_ = spec_.record && !spec_.paranoid;
  recordingState_ = mayRecord_ ? "nothing is recorded yet" : "recording is switched off";
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

std::vector<size_t> Plan::updatesOf(const Place& place) const {
  std::vector<size_t> found;
  for (size_t i = spec_.firstUpdate; i < steps_.size(); i++)
    for (size_t updated = 0; updated < updatedInputs(steps_[i]); updated++) {
      const Place& written = spec_.steps[i].inputs[updated];
      if (written.block == place.block && written.offset == place.offset &&
          written.tensor.bytes() == place.tensor.bytes())
        found.push_back(i);
    }
  return found;
}

bool Plan::isWritten(const Place& place, size_t begin) const {
  for (size_t i = begin; i < steps_.size(); i++) {
    const StepSpec& step = spec_.steps[i];
    if (place.overlaps(step.output) || (step.workspaceBytes > 0 && place.overlaps(step.workspace())))
      return true;
    for (size_t updated = 0; updated < updatedInputs(steps_[i]); updated++)
      if (place.overlaps(step.inputs[updated])) return true;
  }
  return false;
}

}  // namespace voxgrad
