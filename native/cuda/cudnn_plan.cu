#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cudnn_plan.h"

namespace voxgrad::cuda::cudnn {

void expect(Status status, const char* what) {
  if (status == success) return;
  throw Error("ERR_DEVICE", std::string("cuDNN, ") + what + ": " + library()->GetErrorString(status));
}

Handle handle() {
  static Handle made = nullptr;
  if (made == nullptr) {
    expect(library()->Create(&made), "start");
    expect(library()->SetStream(made, stream()), "stream");
  }
  return made;
}

namespace {

enum Note { tensorCore, downConvert, reducedReduction, fft, nondeterministic, winograd, lastNote = 9 };

bool keeps(const Descriptor& config, Precision precision) {
  Descriptor engine(kind::engine);
  BackendDescriptor into = engine.get();
  config.get(attribute::configEngine, type::descriptor, 1, &into);
  int notes[lastNote + 1];
  const int64_t count = engine.get(attribute::engineNotes, type::numericalNote, lastNote + 1, notes);
  const char* deterministic = std::getenv("VOXGRAD_DETERMINISTIC");
  const bool anyBits = deterministic != nullptr && std::strcmp(deterministic, "off") == 0;
  // Of a later version there may be more than there is room for.
  if (count > lastNote + 1) return false;
  return std::none_of(notes, notes + count, [&](int note) {
    if (note == nondeterministic) return !anyBits;
    if (note == tensorCore || note == downConvert) return precision == Precision::f32;
    return note == reducedReduction || (note >= fft && note < lastNote);
  });
}

// Bytes of workspace that an engine may ask for: they come on top of a plan's activations.
constexpr int64_t mostWorkspace = int64_t{1} << 30;

// cuDNN's state, of which one thread at a time makes use.
std::mutex stateMutex;

}  // namespace

// What a plan was made of lives as long as it does.
struct Plan::State {
  Graph graph;
  Descriptor config, plan;
  size_t workspace;
};

Plan::Plan(std::unique_ptr<State> state) : state_(std::move(state)) {}
Plan::~Plan() = default;

size_t Plan::workspace() const { return state_->workspace; }

std::unique_ptr<Plan> Plan::make(const Problem& problem, bool widens) try {
  Graph graph(problem, widens);
  for (const int mode : {heuristicA, heuristicFallback})
    for (Descriptor& config : graph.configs(mode)) {
      if (!keeps(config, problem.precision)) continue;
      Descriptor plan(kind::plan);
      plan.set(attribute::planHandle, type::handle, handle());
      plan.set(attribute::planConfig, type::descriptor, config.get());
      if (!plan.tryFinalize()) continue;
      int64_t workspace = 0;
      plan.get(attribute::planWorkspace, type::int64, 1, &workspace);
      if (workspace > mostWorkspace) continue;
      State state{std::move(graph), std::move(config), std::move(plan), static_cast<size_t>(workspace)};
      return std::unique_ptr<Plan>(new Plan(std::make_unique<State>(std::move(state))));
    }
  return nullptr;
} catch (const Error&) {
  return nullptr;
}

const Plan* Plan::of(const Problem& problem) {
  static auto* plans = new std::map<Problem, std::unique_ptr<Plan>>;
  std::lock_guard<std::mutex> lock(stateMutex);
  const auto [at, isNew] = plans->try_emplace(problem);
  if (isNew) {
    at->second = make(problem, false);
    // The manual lets engines that it describes sum halves and floats, but not bf16.
    if (at->second == nullptr && problem.sums && problem.precision == Precision::bf16 && !problem.wide)
      at->second = make(problem, true);
  }
  return at->second.get();
}

void Plan::run(const Operands& operands, void* workspace) const {
  const struct {
    Id id;
    const void* data;
  } all[] = {{idX, operands.x},         {idW, operands.w},
             {idY, operands.y},         {idBias, operands.bias},
             {idScale, operands.scale}, {idShift, operands.shift},
             {idSums, operands.sums},   {idSquares, operands.squares}};
  int64_t ids[std::size(all)];
  const void* data[std::size(all)];
  int64_t count = 0;
  for (const auto& each : all) {
    if (each.data == nullptr) continue;
    ids[count] = each.id;
    data[count++] = each.data;
  }
  std::lock_guard<std::mutex> lock(stateMutex);
  Descriptor pack(kind::variantPack);
  pack.set(attribute::packIds, type::int64, count, ids);
  pack.set(attribute::packPointers, type::pointer, count, data);
  pack.set(attribute::packWorkspace, type::pointer, workspace);
  pack.finalize("tensors");
  expect(library()->BackendExecute(handle(), state_->plan.get(), pack.get()), "convolution");
}

}  // namespace voxgrad::cuda::cudnn
