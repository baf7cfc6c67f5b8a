#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "cudnn_graph.h"

namespace voxgrad::cuda::cudnn {
namespace {

// Numbers of the backend's interface. Kinds of descriptors:
namespace kind {
constexpr int pointwise = 0, convolution = 1, engine = 2, engineConfig = 3, heuristics = 4, plan = 5,
              convolutionForward = 10, convolutionWeightGradient = 11, convolutionInputGradient = 12,
              pointwiseOperation = 13, operationGraph = 15, variantPack = 16, tensor = 17;
}
// of what attributes consist of:
namespace type {
constexpr int handle = 0, dataType = 1, boolean = 2, int64 = 3, real = 4, pointer = 6, convolutionMode = 7,
              heuristicMode = 8, numericalNote = 11, pointwiseMode = 14, descriptor = 15;
}
// and the attributes.
namespace attribute {
constexpr int pointwiseMode = 0, pointwiseMath = 1;
constexpr int computeType = 100, mode = 101, dilations = 102, strides = 103, postPaddings = 104,
              prePaddings = 105, spatialDimensions = 106;
constexpr int heuristicMode = 200, heuristicGraph = 201, heuristicResults = 202, configEngine = 300;
constexpr int planHandle = 400, planConfig = 401, planWorkspace = 402;
constexpr int pointwiseDescriptor = 750, pointwiseX = 751, pointwiseB = 752, pointwiseY = 753;
constexpr int graphHandle = 800, graphOperations = 801;
constexpr int tensorAlignment = 900, tensorType = 901, tensorExtents = 902, tensorStrides = 903,
              tensorId = 906, tensorIsVirtual = 907;
constexpr int packIds = 1000, packPointers = 1001, packWorkspace = 1003;
constexpr int engineNotes = 1303;

// Of the three kinds of convolutions.
struct Convolution {
  int kind, alpha, beta, how, w, x, y;
};
constexpr Convolution forward = {kind::convolutionForward, 700, 701, 702, 703, 704, 705};
constexpr Convolution inputGradient = {kind::convolutionInputGradient, 706, 707, 708, 709, 710, 711};
constexpr Convolution weightGradient = {kind::convolutionWeightGradient, 712, 713, 714, 715, 716, 717};
}  // namespace attribute

constexpr int dataFloat = 0, dataBf16 = 9;
constexpr int convolutionMode = 0, crossCorrelationMode = 1;
constexpr int pointwiseAdd = 0;
constexpr int heuristicFallback = 2, heuristicA = 3;
enum Note { tensorCore, downConvert, reducedReduction, fft, nondeterministic, winograd, lastNote = 9 };

constexpr int64_t idX = 1, idW = 2, idY = 3, idBias = 4, idSum = 5;

void expect(Status status, const char* what) {
  if (status == success) return;
  throw Error("ERR_DEVICE", std::string("cuDNN, ") + what + ": " + library()->GetErrorString(status));
}

class Descriptor {
 public:
  explicit Descriptor(int kind) { expect(library()->BackendCreateDescriptor(kind, &made_), "descriptor"); }
  ~Descriptor() {
    if (made_ != nullptr) library()->BackendDestroyDescriptor(made_);
  }
  Descriptor(Descriptor&& other) noexcept : made_(std::exchange(other.made_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;

  template <class T>
  void set(int name, int type, int64_t count, const T* values) {
    expect(library()->BackendSetAttribute(made_, name, type, count, values), "attribute");
  }
  template <class T>
  void set(int name, int type, T value) {
    set(name, type, 1, &value);
  }
  template <class T>
  int64_t get(int name, int type, int64_t room, T* values) const {
    int64_t count = 0;
    expect(library()->BackendGetAttribute(made_, name, type, room, &count, values), "attribute");
    return count;
  }
  void finalize(const char* what) { expect(library()->BackendFinalize(made_), what); }
  bool tryFinalize() { return library()->BackendFinalize(made_) == success; }

  BackendDescriptor get() const { return made_; }

 private:
  BackendDescriptor made_ = nullptr;
};

Handle handle() {
  static Handle made = nullptr;
  if (made == nullptr) {
    expect(library()->Create(&made), "start");
    expect(library()->SetStream(made, stream()), "stream");
  }
  return made;
}

// Channels are innermost.
Descriptor tensor(int64_t id, const int64_t* extents, int axes, int dataType, bool isVirtual = false) {
  Descriptor made(kind::tensor);
  int64_t strides[5], stride = extents[1];
  strides[1] = 1;
  for (int i = axes + 1; i >= 2; i--) {
    strides[i] = stride;
    stride *= extents[i];
  }
  strides[0] = stride;
  made.set(attribute::tensorType, type::dataType, dataType);
  made.set(attribute::tensorExtents, type::int64, axes + 2, extents);
  made.set(attribute::tensorStrides, type::int64, axes + 2, strides);
  made.set(attribute::tensorId, type::int64, id);
  made.set(attribute::tensorAlignment, type::int64, int64_t{16});
  made.set(attribute::tensorIsVirtual, type::boolean, isVirtual);
  made.finalize("tensor");
  return made;
}

bool keeps(const Descriptor& config, Precision precision) {
  Descriptor engine(kind::engine);
  BackendDescriptor into = engine.get();
  config.get(attribute::configEngine, type::descriptor, 1, &into);
  int notes[lastNote + 1];
  const int64_t count = engine.get(attribute::engineNotes, type::numericalNote, lastNote + 1, notes);
  const char* deterministic = std::getenv("VOXGRAD_DETERMINISTIC");
  const bool anyBits = deterministic != nullptr && std::strcmp(deterministic, "off") == 0;
  return std::none_of(notes, notes + count, [&](int note) {
    if (note == nondeterministic) return !anyBits;
    if (note == tensorCore || note == downConvert) return precision == Precision::f32;
    return note == reducedReduction || (note >= fft && note < lastNote);
  });
}

// The descriptors of a problem.
class Graph {
 public:
  explicit Graph(const Problem& problem) {
    const bool gradient = problem.pass == Pass::weightGradient;
    const int stored = problem.precision == Precision::bf16 ? dataBf16 : dataFloat;
    const int computed = problem.wide ? dataFloat : stored;
    const int axes = problem.axes;
    const bool intoX = problem.pass == Pass::inputGradient;
    const int64_t* result = intoX ? problem.x : problem.y;
    // Where a bias follows, what the convolution writes is never in memory.
    const auto made = [&](int64_t id, const int64_t* extents, bool isResult) {
      const bool isVirtual = isResult && problem.bias;
      const int dataType = isVirtual ? dataFloat : isResult ? computed : stored;
      return tensor(isVirtual ? idSum : id, extents, axes, dataType, isVirtual);
    };
    parts_.push_back(made(idX, problem.x, intoX));
    parts_.push_back(made(idW, problem.w, gradient));
    parts_.push_back(made(idY, problem.y, !intoX && !gradient));

    Descriptor how(kind::convolution);
    how.set(attribute::computeType, type::dataType, dataFloat);
    how.set(attribute::mode, type::convolutionMode, problem.flipped ? convolutionMode : crossCorrelationMode);
    how.set(attribute::spatialDimensions, type::int64, int64_t{axes});
    how.set(attribute::prePaddings, type::int64, axes, problem.pad);
    how.set(attribute::postPaddings, type::int64, axes, problem.pad);
    how.set(attribute::strides, type::int64, axes, problem.stride);
    how.set(attribute::dilations, type::int64, axes, problem.dilation);
    how.finalize("convolution");

    const attribute::Convolution& names = gradient ? attribute::weightGradient
                                          : intoX  ? attribute::inputGradient
                                                   : attribute::forward;
    Descriptor convolution(names.kind);
    convolution.set(names.alpha, type::real, 1.0f);
    convolution.set(names.beta, type::real, 0.0f);
    convolution.set(names.how, type::descriptor, how.get());
    convolution.set(names.x, type::descriptor, parts_[0].get());
    convolution.set(names.w, type::descriptor, parts_[1].get());
    convolution.set(names.y, type::descriptor, parts_[2].get());
    convolution.finalize("convolution");
    parts_.push_back(std::move(how));
    std::vector<BackendDescriptor> operations = {convolution.get()};
    parts_.push_back(std::move(convolution));

    if (problem.bias) {
      int64_t channels[5] = {1, result[1], 1, 1, 1};
      Descriptor bias = tensor(idBias, channels, axes, dataFloat);
      Descriptor output = tensor(intoX ? idX : idY, result, axes, computed);
      Descriptor adding(kind::pointwise), add(kind::pointwiseOperation);
      adding.set(attribute::pointwiseMode, type::pointwiseMode, pointwiseAdd);
      adding.set(attribute::pointwiseMath, type::dataType, dataFloat);
      adding.finalize("sum");
      add.set(attribute::pointwiseDescriptor, type::descriptor, adding.get());
      add.set(attribute::pointwiseX, type::descriptor, parts_[intoX ? 0 : 2].get());
      add.set(attribute::pointwiseB, type::descriptor, bias.get());
      add.set(attribute::pointwiseY, type::descriptor, output.get());
      add.finalize("sum");
      operations.push_back(add.get());
      for (Descriptor* each : {&bias, &output, &adding, &add}) parts_.push_back(std::move(*each));
    }
    graph_.set(attribute::graphHandle, type::handle, handle());
    graph_.set(attribute::graphOperations, type::descriptor, static_cast<int64_t>(operations.size()),
               operations.data());
    graph_.finalize("graph");
  }

  // cuDNN's proposals for the whole graph, best first; none where it has none.
  std::vector<Descriptor> configs(int mode) const {
    std::vector<Descriptor> configs;
    Descriptor heuristics(kind::heuristics);
    heuristics.set(attribute::heuristicGraph, type::descriptor, graph_.get());
    heuristics.set(attribute::heuristicMode, type::heuristicMode, mode);
    if (!heuristics.tryFinalize()) return configs;
    const int64_t count = heuristics.get<void>(attribute::heuristicResults, type::descriptor, 0, nullptr);
    std::vector<BackendDescriptor> into;
    for (int64_t i = 0; i < count; i++) into.push_back(configs.emplace_back(kind::engineConfig).get());
    const int64_t found = heuristics.get(attribute::heuristicResults, type::descriptor, count, into.data());
    while (static_cast<int64_t>(configs.size()) > found) configs.pop_back();
    return configs;
  }

 private:
  std::vector<Descriptor> parts_;
  Descriptor graph_{kind::operationGraph};
};

// cuDNN's state, of which one thread at a time makes use.
std::mutex stateMutex;

}  // namespace

bool Problem::operator<(const Problem& other) const {
  const auto key = [](const Problem& p) {
    std::array<int64_t, 30> all = {
        static_cast<int64_t>(p.pass), static_cast<int64_t>(p.precision), p.bias, p.wide, p.flipped, p.axes};
    int64_t* to = all.data() + 6;
    for (const auto* extents : {&p.x, &p.w, &p.y}) to = std::copy_n(*extents, p.axes + 2, to);
    for (const auto* each : {&p.pad, &p.stride, &p.dilation}) to = std::copy_n(*each, p.axes, to);
    return all;
  };
  return key(*this) < key(other);
}

// What a plan was made of lives as long as it does.
struct Plan::State {
  Graph graph;
  Descriptor config, plan;
  size_t workspace;
};

Plan::Plan(std::unique_ptr<State> state) : state_(std::move(state)) {}
Plan::~Plan() = default;

size_t Plan::workspace() const { return state_->workspace; }

std::unique_ptr<Plan> Plan::make(const Problem& problem) try {
  Graph graph(problem);
  for (const int mode : {heuristicA, heuristicFallback})
    for (Descriptor& config : graph.configs(mode)) {
      if (!keeps(config, problem.precision)) continue;
      Descriptor plan(kind::plan);
      plan.set(attribute::planHandle, type::handle, handle());
      plan.set(attribute::planConfig, type::descriptor, config.get());
      if (!plan.tryFinalize()) continue;
      int64_t workspace = 0;
      plan.get(attribute::planWorkspace, type::int64, 1, &workspace);
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
  if (isNew) at->second = make(problem);
  return at->second.get();
}

void Plan::run(const void* x, const void* w, const void* y, const float* bias, void* workspace) const {
  const int64_t ids[] = {idX, idW, idY, idBias};
  const void* const data[] = {x, w, y, bias};
  std::lock_guard<std::mutex> lock(stateMutex);
  Descriptor pack(kind::variantPack);
  const int64_t count = bias != nullptr ? 4 : 3;
  pack.set(attribute::packIds, type::int64, count, ids);
  pack.set(attribute::packPointers, type::pointer, count, data);
  pack.set(attribute::packWorkspace, type::pointer, workspace);
  pack.finalize("tensors");
  expect(library()->BackendExecute(handle(), state_->plan.get(), pack.get()), "convolution");
}

}  // namespace voxgrad::cuda::cudnn
