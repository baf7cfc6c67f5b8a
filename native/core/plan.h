// A finished plan: checked for memory safety once, then run step by step over one arena.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
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
};

struct StepSpec {
  std::string kernel;
  std::string label;
  std::vector<Place> inputs;
  Place output;
  Attributes attributes;
  uint64_t workspaceOffset = 0;
  uint64_t workspaceBytes = 0;
};

struct PlanSpec {
  Backend* backend = nullptr;
  uint64_t arenaBytes = 0;
  std::vector<std::shared_ptr<Block>> states;
  std::vector<StepSpec> steps;
  std::vector<Place> inputs;
  std::vector<Place> outputs;
  // Steps before this index depend on states alone: they run again only after one of those was written.
  size_t prologue = 0;
  // Steps from this index on write states; they run only when every float output is finite.
  size_t firstUpdate = 0;
  // Slow mode for tests: memory is NaN before it is written and every stray write is reported.
  bool paranoid = false;
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

class Plan {
 public:
  // Throws Error("ERR_PLAN") unless every tensor lies inside its block and every kernel accepts its step.
  explicit Plan(PlanSpec spec);

  // Copies `inputs` in, runs every step, copies the outputs out. Stops between steps with
  // Error("ERR_ABORTED") while no state has changed; once updates have begun they are finished. Throws
  // Error("ERR_NOT_FINITE") naming the first bad tensor, states untouched, when a float output is not finite.
  void run(const std::vector<std::vector<uint8_t>>& inputs, std::vector<std::vector<uint8_t>>& outputs,
           const std::atomic<bool>& cancelled);

  // Milliseconds of each of `runs` executions of all steps behind the prologue, updates included, between
  // staging the inputs and copying the outputs. Inputs are staged once, or before every run when a step
  // writes over one of them.
  std::vector<double> time(const std::vector<std::vector<uint8_t>>& inputs, int64_t runs,
                           const std::atomic<bool>& cancelled);

  // The same, step by step: milliseconds of every step behind the prologue in the first run, then in the
  // second, ...
  std::vector<double> profile(const std::vector<std::vector<uint8_t>>& inputs, int64_t runs,
                              const std::atomic<bool>& cancelled);

  const PlanSpec& spec() const { return spec_; }

 private:
  void* resolve(const Place& place, const std::string& where) const;
  void countWrite(const Place& place) const;
  void runPrologue(const std::atomic<bool>* cancelled);
  void stage(const std::vector<std::vector<uint8_t>>& inputs);
  void execute(size_t begin, size_t end, const std::atomic<bool>* cancelled, bool findNotFinite);
  bool outputsFinite();
  bool allFinite(const Tensor& tensor);
  bool inputsSurvive() const;
  // Makes the plan ready for timed runs and returns what must be done before each of them.
  std::function<void()> beforeTimedRuns(const std::vector<std::vector<uint8_t>>& inputs,
                                        const std::atomic<bool>& cancelled);

  PlanSpec spec_;
  std::unique_ptr<Block> arena_;
  std::vector<Step> steps_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
  std::vector<uint8_t> checked_;
  // The states that the prologue reads, with the versions it saw last; none before it has run.
  std::vector<std::pair<const Block*, uint64_t>> prologueStates_;
  bool prologueRan_ = false;
};

}  // namespace voxgrad
