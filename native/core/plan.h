// A finished plan: checked for memory safety once, then run step by step over one arena.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory.h"
#include "tensor.h"

namespace voxgrad {

// Where a tensor lies: `block` indexes the plan's states, arenaBlock is the arena.
struct Place {
  static constexpr int64_t arenaBlock = -1;
  Tensor tensor;
  int64_t block = arenaBlock;
  uint64_t offset = 0;

  bool overlaps(const Place& other) const {
    return block == other.block && offset < other.offset + other.tensor.bytes() &&
           other.offset < offset + tensor.bytes();
  }
};

struct StepSpec {
  std::string kernel;
  std::string label;
  std::vector<Place> inputs;
  Place output;
  Attributes attributes;
  uint64_t workspaceOffset = 0;
  uint64_t workspaceBytes = 0;

  Place workspace() const {
    Place place;
    place.tensor.dtype = DType::u8;
    place.tensor.rank = 1;
    place.tensor.shape[0] = static_cast<int64_t>(workspaceBytes);
    place.offset = workspaceOffset;
    return place;
  }
};

struct PlanSpec {
  Backend* backend = nullptr;
  uint64_t arenaBytes = 0;
  std::vector<std::shared_ptr<Block>> states;
  std::vector<StepSpec> steps;
  std::vector<Place> inputs;
  std::vector<Place> outputs;
  // Steps before this index depend on states alone: they run again only after one of those was written, but
  // for an update that writes what they made of it as well.
  size_t prologue = 0;
  // Steps from this index on write states; they run only when every float output is finite.
  size_t firstUpdate = 0;
  // Slow mode for tests: memory is NaN before it is written and every stray write is reported.
  bool paranoid = false;
  // Whether the second run may record what the device does, for later ones to replay.
  bool record = false;
};

// Workspace of one step; throws Error when the kernel does not exist or refuses the step.
size_t workspaceBytes(const Backend& backend, const StepSpec& spec);

// Length of what a step that packs weights yields, whatever its output says; throws as workspaceBytes does.
int64_t packedFloats(const Backend& backend, const StepSpec& spec);

// The algorithm the kernel of a step chose, empty where it knows but one; throws as workspaceBytes does.
std::string algorithmOf(const Backend& backend, const StepSpec& spec);

// Whether the kernel of a step could normalise its first input as it loads it; throws as workspaceBytes does.
bool normalizes(const Backend& backend, const StepSpec& spec);

// Whether it could sum the moments of its output as it stores it; throws as workspaceBytes does.
bool sums(const Backend& backend, const StepSpec& spec);

// The names of the ways that the kernel of a step may be told to take; throws as workspaceBytes does.
std::vector<std::string> waysOf(const Backend& backend, const StepSpec& spec);

class Plan {
 public:
  // Throws Error("ERR_PLAN") unless every tensor lies inside its block and every kernel accepts its step.
  explicit Plan(PlanSpec spec);

  // Begins to bring the inputs of one run to the device. From any thread.
  std::unique_ptr<Upload> upload(const std::vector<HostBytes>& inputs) const;

  // Runs every step on inputs that `upload` made and copies the outputs out. The first run waits for each
  // step, so that an error has its name; later ones replay what the second recorded, where the device can.
  //
  // Stops with Error("ERR_ABORTED") while no state has changed, between steps or, of a recording, at its
  // end; once updates have begun they are finished. Throws Error("ERR_NOT_FINITE") naming the first bad
  // tensor, states untouched, when a float output is not finite.
  void run(Upload& inputs, std::vector<std::vector<uint8_t>>& outputs, const std::atomic<bool>& cancelled);

  // Milliseconds of each of `runs` executions of all steps behind the prologue, updates included, between
  // staging the inputs and copying the outputs. Inputs are staged once, or before every run when a step
  // writes over one of them.
  std::vector<double> time(Upload& inputs, int64_t runs, const std::atomic<bool>& cancelled);

  // The same, step by step: milliseconds of every step behind the prologue in the first run, then in the
  // second, ...
  std::vector<double> profile(Upload& inputs, int64_t runs, const std::atomic<bool>& cancelled);

  // "recorded", or why the steps are run one by one. From any thread.
  std::string recordingState() const;

  const PlanSpec& spec() const { return spec_; }

 private:
  void* resolve(const Place& place, const std::string& where) const;
  // The updates that write all of what lies there besides their output.
  std::vector<size_t> updatesOf(const Place& place) const;
  // Whether a step from `begin` on writes there.
  bool isWritten(const Place& place, size_t begin) const;

  enum class Care { none, finishEach, findNotFinite };
  void stage(Upload& inputs);
  void runPrologue(const std::atomic<bool>* cancelled);
  void compute(const std::atomic<bool>* cancelled);
  void update();
  void advance(size_t begin, size_t end, std::unique_ptr<Recording>& recording,
               const std::atomic<bool>* cancelled);
  void execute(size_t begin, size_t end, const std::atomic<bool>* cancelled, Care care);
  void countWrites(size_t begin, size_t end);
  void readOutputs(std::vector<std::vector<uint8_t>>& outputs);
  bool allFinite(const Tensor& tensor);
  // Makes the plan ready for timed runs and returns what must be done before each of them.
  std::function<void()> beforeTimedRuns(Upload& inputs, const std::atomic<bool>& cancelled);

  PlanSpec spec_;
  std::unique_ptr<Block> arena_;
  std::vector<Step> steps_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
  // Whether no update writes over an output.
  bool outputsStay_ = true;
  // A state that a step of the prologue reads, the version that its result is of, once the prologue has run,
  // and the updates that write this result as well.
  struct Reading {
    const Block* state;
    std::vector<size_t> updates;
    uint64_t version = 0;

    bool isCurrent() const { return state->version() == version; }
  };
  std::vector<Reading> readings_;
  bool prologueRan_ = false;
  // Whether a run was finished.
  bool ran_ = false;
  bool mayRecord_ = false;
  // Of all steps between the prologue and the updates, and of those.
  std::unique_ptr<Recording> computing_, updating_;
  mutable std::mutex recordingMutex_;
  std::string recordingState_;
};

}  // namespace voxgrad
