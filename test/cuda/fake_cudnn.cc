// Stands for libcudnn.so.9 in cudnn.test.ts: the functions of its backend of operation graphs that are called, computed by
// plain loops over what the descriptors say. Anything unexpected is refused. FAKE_CUDNN_VERSION is the version it claims.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace {

constexpr int good = 0, badParameter = 2000, notSupported = 3000;
constexpr int64_t workspaceBytes = 1000;

// Kinds of descriptors, and of what attributes consist of, by cuDNN's numbers.
enum Kind {
  pointwise = 0,
  convolution = 1,
  engine = 2,
  engineConfig = 3,
  heuristics = 4,
  executionPlan = 5,
  forward = 10,
  weightGradient = 11,
  inputGradient = 12,
  pointwiseOperation = 13,
  operationGraph = 15,
  variantPack = 16,
  tensor = 17,
};
constexpr int64_t sizeOfType[16] = {8, 4, 1, 8, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 8};

struct Descriptor {
  int kind;
  bool final = false;
  std::map<int, std::vector<char>> attributes;
  // Of an engine: whether a note says that its bits are not always the same.
  bool nondeterministic = false;

  bool has(int name) const { return attributes.count(name) > 0; }
  template <class T>
  std::vector<T> all(int name) const {
    const std::vector<char>& bytes = attributes.at(name);
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  template <class T>
  T one(int name) const {
    return all<T>(name).at(0);
  }
  const Descriptor& part(int name) const { return *one<const Descriptor*>(name); }
};

// The tensor that a pointer of the variant pack belongs to.
struct Operand {
  int64_t id = 0;
  int type = 0;  // 0 for float, 9 for bf16
  std::vector<int64_t> extents;
  bool isVirtual = false;

  bool read(const Descriptor& from) {
    id = from.one<int64_t>(906);
    type = from.one<int>(901);
    extents = from.all<int64_t>(902);
    isVirtual = from.has(907) && from.one<char>(907) != 0;
    const auto strides = from.all<int64_t>(903);
    // Channels innermost, and nothing between.
    int64_t stride = 1;
    for (size_t i = 1; i <= extents.size(); i++) {
      const size_t axis = i == 1 ? 1 : i == extents.size() ? 0 : extents.size() + 1 - i;
      if (strides.at(axis) != stride) return false;
      stride *= extents[axis];
    }
    return (type == 0 || type == 9) && from.one<int64_t>(900) == 16;
  }
  int64_t count() const {
    int64_t count = 1;
    for (const int64_t extent : extents) count *= extent;
    return count;
  }
};

float load(const Operand& operand, const void* data, int64_t i) {
  if (operand.type == 0) return static_cast<const float*>(data)[i];
  const uint32_t bits = uint32_t{static_cast<const uint16_t*>(data)[i]} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void store(const Operand& operand, void* data, int64_t i, float value) {
  if (operand.type == 0) {
    static_cast<float*>(data)[i] = value;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// By axes of space, three of them always; the result is that of the convolution, or with a bias of the sum.
struct Problem {
  int pass;
  Operand x, w, y, bias, result;
  bool hasBias = false, flipped = false;
  int64_t ex[3] = {1, 1, 1}, ew[3] = {1, 1, 1}, ey[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};

  bool read(const Descriptor& graph) {
    const auto operations = graph.all<const Descriptor*>(801);
    if (operations.empty() || operations.size() > 2) return false;
    const Descriptor& own = *operations[0];
    pass = own.kind;
    if (pass < forward || pass > inputGradient) return false;
    // The passes' attributes follow each other in sixes: alpha, beta, how, and three tensors.
    const int first = pass == forward ? 700 : pass == inputGradient ? 706 : 712;
    if (own.one<float>(first) != 1 || own.one<float>(first + 1) != 0) return false;
    const Descriptor& how = own.part(first + 2);
    if (!w.read(own.part(first + 3)) || !x.read(own.part(first + 4)) || !y.read(own.part(first + 5))) return false;
    result = pass == forward ? y : pass == inputGradient ? x : w;
    const auto axes = how.one<int64_t>(106);
    const auto pads = how.all<int64_t>(105), strides = how.all<int64_t>(103), dilations = how.all<int64_t>(102);
    if (how.one<int>(100) != 0 || pads != how.all<int64_t>(104)) return false;
    if (axes < 2 || axes > 3 || x.extents.size() != static_cast<size_t>(axes) + 2) return false;
    flipped = how.one<int>(101) == 0;
    for (int i = 0; i < axes; i++) {
      const auto to = 3 - axes + i;
      ex[to] = x.extents[i + 2];
      ew[to] = w.extents[i + 2];
      ey[to] = y.extents[i + 2];
      pad[to] = pads[i];
      stride[to] = strides[i];
      dilation[to] = dilations[i];
      if ((ex[to] + 2 * pad[to] - dilation[to] * (ew[to] - 1) - 1) / stride[to] + 1 != ey[to]) return false;
    }
    if (y.extents[0] != x.extents[0] || y.extents[1] != w.extents[0] || x.extents[1] % w.extents[1] != 0)
      return false;
    hasBias = operations.size() == 2;
    if (result.isVirtual != hasBias) return false;
    if (!hasBias) return true;
    const Descriptor& add = *operations[1];
    if (add.kind != pointwiseOperation || add.part(750).one<int>(0) != 0) return false;
    if (add.part(751).one<int64_t>(906) != result.id || !bias.read(add.part(752)) || bias.type != 0) return false;
    const int64_t channels = result.extents[1];
    return result.read(add.part(753)) && bias.count() == channels && bias.extents[1] == channels;
  }

  // Calls f(index in x, index in w, index in y) for the first of a row of products, of as many channels as a filter has.
  template <class F>
  void forEachRow(F f) const {
    const int64_t taps = ew[0] * ew[1] * ew[2], voxels = ey[0] * ey[1] * ey[2];
    const int64_t C = x.extents[1], K = y.extents[1], depth = w.extents[1], groups = C / depth;
    for (int64_t n = 0; n < x.extents[0]; n++)
      for (int64_t voxel = 0; voxel < voxels; voxel++)
        for (int64_t tap = 0; tap < taps; tap++) {
          const int64_t out[3] = {voxel / ey[2] / ey[1], voxel / ey[2] % ey[1], voxel % ey[2]};
          const int64_t at[3] = {tap / ew[2] / ew[1], tap / ew[2] % ew[1], tap % ew[2]};
          int64_t from = n;
          bool inside = true;
          for (int i = 0; i < 3; i++) {
            const int64_t position = out[i] * stride[i] + at[i] * dilation[i] - pad[i];
            inside = inside && position >= 0 && position < ex[i];
            from = from * ex[i] + position;
          }
          if (!inside) continue;
          const int64_t filterTap = flipped ? taps - 1 - tap : tap;
          for (int64_t k = 0; k < K; k++)
            f(from * C + k / (K / groups) * depth, (k * taps + filterTap) * depth, (n * voxels + voxel) * K + k);
        }
  }

  void run(const std::map<int64_t, void*>& data) const {
    const auto floats = [&](const Operand& operand) {
      std::vector<float> values(operand.count());
      for (size_t i = 0; i < values.size(); i++) values[i] = load(operand, data.at(operand.id), i);
      return values;
    };
    std::vector<float> own[3], sums(result.count());
    if (pass != inputGradient) own[0] = floats(x);
    if (pass != weightGradient) own[1] = floats(w);
    if (pass != forward) own[2] = floats(y);
    const float *from = own[0].data(), *weights = own[1].data(), *gradient = own[2].data();
    const int64_t depth = w.extents[1];
    forEachRow([&](int64_t i, int64_t j, int64_t k) {
      if (pass == forward)
        for (int64_t c = 0; c < depth; c++) sums[k] += from[i + c] * weights[j + c];
      if (pass == inputGradient)
        for (int64_t c = 0; c < depth; c++) sums[i + c] += gradient[k] * weights[j + c];
      if (pass == weightGradient)
        for (int64_t c = 0; c < depth; c++) sums[j + c] += from[i + c] * gradient[k];
    });
    std::vector<float> added;
    if (hasBias) added = floats(bias);
    for (int64_t i = 0; i < result.count(); i++)
      store(result, data.at(result.id), i, sums[i] + (hasBias ? added[i % added.size()] : 0));
  }
};

// What it does not take: channels that are no multiple of four; a bias with a gradient.
int supports(const Descriptor& graph) {
  Problem p;
  if (!p.read(graph)) return badParameter;
  const bool taken = p.x.extents[1] % 4 == 0 && p.y.extents[1] % 4 == 0 && !(p.hasBias && p.pass != forward);
  return taken ? good : notSupported;
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
    *static_cast<int64_t*>(values) = workspaceBytes;
    return good;
  }
  return badParameter;
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
  if (to->final || type < 0 || type > 15 || count < 1) return badParameter;
  // What consists of descriptors consists of finished ones.
  if (type == 15)
    for (int64_t i = 0; i < count; i++)
      if (!static_cast<const Descriptor* const*>(values)[i]->final) return badParameter;
  const char* const bytes = static_cast<const char*>(values);
  to->attributes[name].assign(bytes, bytes + count * sizeOfType[type]);
  return good;
}
int cudnnBackendGetAttribute(Descriptor* from, int name, int, int64_t room, int64_t* count, void* values) {
  const bool made = from->final || from->kind == engine;
  return made ? answer(*from, name, room, count, values) : badParameter;
}
int cudnnBackendFinalize(Descriptor* made) {
  if (made->final) return badParameter;
  made->final = true;
  if (made->kind == heuristics) return supports(made->part(201));
  return good;
}
int cudnnBackendExecute(void*, Descriptor* plan, Descriptor* pack) {
  if (plan->kind != executionPlan || pack->kind != variantPack || !plan->final || !pack->final) return badParameter;
  const auto ids = pack->all<int64_t>(1000);
  const auto pointers = pack->all<void*>(1001);
  void* const workspace = pack->one<void*>(1003);
  if (workspace == nullptr || ids.size() != pointers.size()) return badParameter;
  std::memset(workspace, 1, workspaceBytes);
  std::map<int64_t, void*> data;
  for (size_t i = 0; i < ids.size(); i++) data[ids[i]] = pointers[i];
  Problem p;
  if (!p.read(plan->part(401).part(201))) return badParameter;
  p.run(data);
  return good;
}
}
