// Stands for libcudnn.so.9 in the tests: the functions of its backend of operation graphs that are called. Anything
// unexpected is refused. FAKE_CUDNN_VERSION is the version it claims, FAKE_CUDNN_WORKSPACE the bytes that its engines ask
// for, FAKE_CUDNN_REFUSES what it has no engine for besides, any of `normalisation`, `sums`, `bf16 sums` and `plans` of more
// than a convolution and its bias.
#include <cstdlib>
#include <string>

#include "fake_cudnn_graph.h"

namespace {

using namespace fake;

constexpr int64_t workspaceBytes = 1000;

bool refuses(const char* what) {
  const char* const all = std::getenv("FAKE_CUDNN_REFUSES");
  return all != nullptr && (std::string(",") + all + ",").find(std::string(",") + what + ",") != std::string::npos;
}

// A source that is scaled, shifted and passed through a ReLU; a convolution; a bias; and statistics of what is stored.
struct Pattern {
  bool normalizes = false, bias = false, sums = false, sumsBf16 = false;
  Operand x, y;

  int read(const Graph& graph) {
    std::vector<int> kinds;
    for (const Operation& each : graph.operations) kinds.push_back(each.kind == pointwiseOperation ? 1000 + each.mode : each.kind);
    const auto is = [&](size_t at, int kind) { return at < kinds.size() && kinds[at] == kind; };
    size_t at = 0;
    normalizes = is(0, 1000 + multiply);
    if (normalizes) {
      if (!is(1, 1000 + add) || !is(2, 1000 + relu)) return notSupported;
      for (int i = 0; i < 3; i++)
        if (!graph.tensors.at(graph.operations[i].ids[2]).isVirtual) return notSupported;
      at = 3;
    }
    if (at >= kinds.size() || kinds[at] < forward || kinds[at] > inputGradient) return notSupported;
    const Operation& convolution = graph.operations[at++];
    x = graph.tensors.at(convolution.ids[0]);
    y = graph.tensors.at(convolution.ids[2]);
    bias = is(at, 1000 + add);
    if (bias && (convolution.kind != forward || !y.isVirtual)) return notSupported;
    at += bias;
    at += is(at, 1000 + identity);
    sums = is(at, statistics);
    if (sums) sumsBf16 = graph.tensors.at(graph.operations[at++].ids[0]).type == bf16;
    return at == kinds.size() ? good : notSupported;
  }
};

int supports(const Descriptor& descriptor) {
  Graph graph;
  if (const int status = graph.read(descriptor)) return status;
  Pattern p;
  if (const int status = p.read(graph)) return status;
  const bool refused = (p.normalizes && refuses("normalisation")) || (p.sums && refuses("sums")) || (p.sumsBf16 && refuses("bf16 sums"));
  return !refused && p.x.channels() % 4 == 0 && p.y.channels() % 4 == 0 ? good : notSupported;
}

// Whether an engine's plan can be finished.
int supportsPlan(const Descriptor& config) {
  return refuses("plans") && config.part(201).all<const Descriptor*>(801).size() > 2 ? notSupported : good;
}

// An attribute of a final descriptor; two proposals for every graph, the first of which is not deterministic.
int answer(const Descriptor& from, int name, int64_t room, int64_t* count, void* values) {
  if (from.kind == heuristics && name == 202) {
    *count = 2;
    auto** const configs = static_cast<Descriptor**>(values);
    for (int64_t i = 0; i < room && i < 2; i++) {
      configs[i]->nondeterministic = i == 0;
      configs[i]->final = true;
      configs[i]->attributes[201] = from.attributes.at(201);
    }
    return good;
  }
  *count = 1;
  if (from.kind == engineConfig && name == 300 && room == 1) {
    (*static_cast<Descriptor**>(values))->nondeterministic = from.nondeterministic;
    return good;
  }
  if (from.kind == engine && name == 1303 && room >= 1) {
    *count = from.nondeterministic ? 1 : 0;
    *static_cast<int*>(values) = 4;
    return good;
  }
  if (from.kind == executionPlan && name == 402 && room == 1) {
    const char* const bytes = std::getenv("FAKE_CUDNN_WORKSPACE");
    *static_cast<int64_t*>(values) = bytes != nullptr ? std::strtoll(bytes, nullptr, 10) : workspaceBytes;
    return good;
  }
  return refuse("an attribute that cannot be read", name);
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() {
  const char* version = std::getenv("FAKE_CUDNN_VERSION");
  return version != nullptr ? std::strtoull(version, nullptr, 10) : 91501;
}
const char* cudnnGetErrorString(int) { return "the fake refuses"; }
int cudnnCreate(void** handle) {
  static int made;
  *handle = &made;
  return good;
}
int cudnnSetStream(void*, void* stream) { return stream != nullptr ? good : badParameter; }

int cudnnBackendCreateDescriptor(int kind, Descriptor** made) { return *made = new Descriptor{kind}, good; }
int cudnnBackendDestroyDescriptor(Descriptor* made) { return delete made, good; }
int cudnnBackendSetAttribute(Descriptor* to, int name, int type, int64_t count, const void* values) {
  return to->set(name, type, count, values);
}
int cudnnBackendGetAttribute(Descriptor* from, int name, int, int64_t room, int64_t* count, void* values) {
  const bool made = from->final || from->kind == engine;
  return made ? answer(*from, name, room, count, values) : refuse("an attribute is read before finalize", name);
}
int cudnnBackendFinalize(Descriptor* made) {
  if (const int status = made->finalize()) return status;
  if (made->kind == operationGraph) return Graph().read(*made);
  if (made->kind == heuristics) return supports(made->part(201));
  return made->kind == executionPlan ? supportsPlan(made->part(401)) : good;
}
int cudnnBackendExecute(void*, Descriptor* plan, Descriptor* pack) {
  if (plan->kind != executionPlan || pack->kind != variantPack || !plan->final || !pack->final) return badParameter;
  const auto ids = pack->all<int64_t>(1000);
  const auto pointers = pack->all<void*>(1001);
  void* const workspace = pack->one<void*>(1003);
  if (workspace == nullptr) return refuse("no workspace");
  std::memset(workspace, 1, workspaceBytes);
  std::map<int64_t, void*> data;
  for (size_t i = 0; i < ids.size(); i++)
    if (!data.emplace(ids[i], pointers[i]).second) return refuse("a number twice", static_cast<int>(ids[i]));
  Graph graph;
  if (const int status = graph.read(plan->part(401).part(201))) return status;
  return graph.run(data);
}
}
