// Descriptors of the stand-in for cuDNN: what each kind of them must be told before it is finished, by cuDNN's reference
// manual. Numbers are those of its interface.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

namespace fake {

constexpr int good = 0, badParameter = 2000, notSupported = 3000;

// Says why on the error stream, where a failing test shows it.
inline int refuse(const char* why, int number = 0) {
  std::fprintf(stderr, "fake cuDNN: %s (%d)\n", why, number);
  return badParameter;
}

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
  statistics = 14,
  operationGraph = 15,
  variantPack = 16,
  tensor = 17,
};
enum Mode { add = 0, multiply = 1, identity = 21, relu = 100 };
enum DataType { floats = 0, bf16 = 9 };

// What attributes consist of: 0 handle, 1 data type, 2 boolean, 3 int64, 4 float, 5 double, 6 pointer, 7 convolution mode, 8
// heuristic mode, 9 knob, 10 NaN propagation, 11 note, 12 layout, 13 attribute, 14 pointwise mode, 15 descriptor, 16 statistics
// mode.
constexpr int types = 17;
constexpr int64_t sizeOfType[types] = {8, 4, 1, 8, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 8, 4};

struct Rule {
  int kind, name, type;
  int64_t most;  // values
  bool needed;
};
constexpr Rule rules[] = {
    {pointwise, 0, 14, 1, true},
    {pointwise, 1, 1, 1, true},
    {pointwise, 2, 10, 1, false},
    {convolution, 100, 1, 1, true},
    {convolution, 101, 7, 1, true},
    {convolution, 102, 3, 3, true},
    {convolution, 103, 3, 3, true},
    {convolution, 104, 3, 3, true},
    {convolution, 105, 3, 3, true},
    {convolution, 106, 3, 1, true},
    {heuristics, 200, 8, 1, true},
    {heuristics, 201, 15, 1, true},
    {executionPlan, 400, 0, 1, true},
    {executionPlan, 401, 15, 1, true},
    {forward, 700, 4, 1, true},
    {forward, 701, 4, 1, true},
    {forward, 702, 15, 1, true},
    {forward, 703, 15, 1, true},
    {forward, 704, 15, 1, true},
    {forward, 705, 15, 1, true},
    {inputGradient, 706, 4, 1, true},
    {inputGradient, 707, 4, 1, true},
    {inputGradient, 708, 15, 1, true},
    {inputGradient, 709, 15, 1, true},
    {inputGradient, 710, 15, 1, true},
    {inputGradient, 711, 15, 1, true},
    {weightGradient, 712, 4, 1, true},
    {weightGradient, 713, 4, 1, true},
    {weightGradient, 714, 15, 1, true},
    {weightGradient, 715, 15, 1, true},
    {weightGradient, 716, 15, 1, true},
    {weightGradient, 717, 15, 1, true},
    {pointwiseOperation, 750, 15, 1, true},
    {pointwiseOperation, 751, 15, 1, true},
    {pointwiseOperation, 752, 15, 1, false},
    {pointwiseOperation, 753, 15, 1, true},
    {statistics, 770, 16, 1, true},
    {statistics, 771, 1, 1, true},
    {statistics, 772, 15, 1, true},
    {statistics, 773, 15, 1, true},
    {statistics, 774, 15, 1, true},
    {operationGraph, 800, 0, 1, true},
    {operationGraph, 801, 15, 50, true},
    {tensor, 900, 3, 1, true},
    {tensor, 901, 1, 1, true},
    {tensor, 902, 3, 8, true},
    {tensor, 903, 3, 8, true},
    {tensor, 906, 3, 1, true},
    {tensor, 907, 2, 1, false},
    {variantPack, 1000, 3, 100, true},
    {variantPack, 1001, 6, 100, true},
    {variantPack, 1003, 6, 1, true},
};

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

  int set(int name, int type, int64_t count, const void* values) {
    if (final) return refuse("an attribute is set behind finalize", name);
    for (const Rule& rule : rules) {
      if (rule.kind != kind || rule.name != name) continue;
      if (rule.type != type) return refuse("an attribute of another type", name);
      if (count < 1 || count > rule.most) return refuse("too few or too many values", name);
      if (type == 15)
        for (int64_t i = 0; i < count; i++) {
          const Descriptor* const each = static_cast<const Descriptor* const*>(values)[i];
          if (each == nullptr || !each->final) return refuse("a descriptor that is not finished", name);
        }
      const char* const bytes = static_cast<const char*>(values);
      attributes[name].assign(bytes, bytes + count * sizeOfType[type]);
      return good;
    }
    return refuse("an attribute that this kind does not have", name);
  }

  // Whether what is needed is there, and what the kind demands of it by itself.
  int finalize() {
    if (final) return refuse("finished twice", kind);
    for (const Rule& rule : rules)
      if (rule.kind == kind && rule.needed && !has(rule.name)) return refuse("an attribute is missing", rule.name);
    if (kind == pointwise && one<int>(1) != floats) return refuse("pointwise not in floats");
    if (kind == convolution) {
      const auto axes = static_cast<size_t>(one<int64_t>(106));
      if (one<int>(100) != floats) return refuse("convolution not in floats");
      for (const int name : {102, 103, 104, 105})
        if (all<int64_t>(name).size() != axes) return refuse("not a number for each axis", name);
    }
    if (kind == pointwiseOperation) {
      const int mode = part(750).one<int>(0);
      if (has(752) != (mode == add || mode == multiply)) return refuse("a wrong number of operands of mode", mode);
    }
    if (kind == statistics && (one<int>(770) != 0 || one<int>(771) != floats)) return refuse("statistics of another kind");
    if (kind == variantPack && all<int64_t>(1000).size() != all<void*>(1001).size())
      return refuse("not a pointer for each number");
    final = true;
    return good;
  }
};

}  // namespace fake
