// Operation graphs of the stand-in for cuDNN: checked, and computed by plain loops over what the descriptors say.
#pragma once

#include <algorithm>
#include <cmath>
#include <set>

#include "fake_cudnn_descriptor.h"

namespace fake {

inline float roundToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value == value) bits += 0x7fff + (bits >> 16 & 1);
  bits &= 0xffff0000;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Operand {
  int64_t id = 0;
  int type = 0;
  std::vector<int64_t> extents;
  bool isVirtual = false;

  // Channels innermost, and nothing between.
  bool read(const Descriptor& from) {
    id = from.one<int64_t>(906);
    type = from.one<int>(901);
    extents = from.all<int64_t>(902);
    isVirtual = from.has(907) && from.one<char>(907) != 0;
    const auto strides = from.all<int64_t>(903);
    if (from.kind != tensor || strides.size() != extents.size()) return false;
    int64_t stride = 1;
    for (size_t i = 1; i <= extents.size(); i++) {
      const size_t axis = i == 1 ? 1 : i == extents.size() ? 0 : extents.size() + 1 - i;
      if (extents[axis] < 1 || strides[axis] != stride) return false;
      stride *= extents[axis];
    }
    return (type == floats || type == bf16) && from.one<int64_t>(900) == 16;
  }
  int64_t count() const {
    int64_t count = 1;
    for (const int64_t extent : extents) count *= extent;
    return count;
  }
  int64_t channels() const { return extents[1]; }
  bool isPerChannelOf(const Operand& other) const {
    return count() == channels() && channels() == other.channels() && extents.size() == other.extents.size() &&
           type == floats && !isVirtual;
  }
  std::vector<float> load(const void* data) const {
    std::vector<float> values(count());
    for (size_t i = 0; i < values.size(); i++) {
      uint32_t bits = 0;
      if (type == floats)
        std::memcpy(&bits, static_cast<const float*>(data) + i, sizeof bits);
      else
        bits = uint32_t{static_cast<const uint16_t*>(data)[i]} << 16;
      std::memcpy(&values[i], &bits, sizeof bits);
    }
    return values;
  }
  void store(const std::vector<float>& values, void* data) const {
    for (size_t i = 0; i < values.size(); i++) {
      uint32_t bits;
      std::memcpy(&bits, &values[i], sizeof bits);
      if (type == floats)
        static_cast<float*>(data)[i] = values[i];
      else
        static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(bits >> 16);
    }
  }
};

// A convolution by axes of space, three of them always.
struct Window {
  bool flipped = false;
  int64_t ex[3] = {1, 1, 1}, ew[3] = {1, 1, 1}, ey[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};

  bool read(const Descriptor& how, const Operand& x, const Operand& w, const Operand& y) {
    const auto axes = how.one<int64_t>(106);
    const auto pads = how.all<int64_t>(105), strides = how.all<int64_t>(103), dilations = how.all<int64_t>(102);
    if (how.kind != convolution || pads != how.all<int64_t>(104) || axes < 2 || axes > 3) return false;
    for (const Operand* each : {&x, &w, &y})
      if (each->extents.size() != static_cast<size_t>(axes) + 2) return false;
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
    return y.extents[0] == x.extents[0] && y.channels() == w.extents[0] && x.channels() % w.channels() == 0;
  }

  // Calls f(index in x, index in w, index in y) for the first of a row of products, of as many channels as a filter has.
  template <class F>
  void forEachRow(const Operand& x, const Operand& w, const Operand& y, F f) const {
    const int64_t taps = ew[0] * ew[1] * ew[2], voxels = ey[0] * ey[1] * ey[2];
    const int64_t C = x.channels(), K = y.channels(), depth = w.channels(), groups = C / depth;
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
};

struct Operation {
  int kind = 0, mode = 0;
  // Numbers of the tensors: x, w and y of convolutions, x, b and y of what is pointwise, x, sums and squares of statistics.
  int64_t ids[3] = {0, 0, 0};
  bool writes[3] = {false, false, false};
  Window window;
};

class Graph {
 public:
  std::map<int64_t, Operand> tensors;
  std::vector<Operation> operations;

  // Whether it is one that cuDNN documents as a graph at all.
  int read(const Descriptor& graph) {
    std::set<int64_t> made;
    for (const Descriptor* each : graph.all<const Descriptor*>(801)) {
      Operation operation;
      operation.kind = each->kind;
      if (const int status = readOperation(*each, operation)) return status;
      for (int i = 0; i < 3; i++) {
        const int64_t id = operation.ids[i];
        if (id == 0) continue;
        if (operation.writes[i] && !made.insert(id).second) return refuse("a tensor is made twice", static_cast<int>(id));
        if (!operation.writes[i] && tensors.at(id).isVirtual && made.count(id) == 0)
          return refuse("a virtual tensor is read before it is made", static_cast<int>(id));
      }
      operations.push_back(operation);
    }
    return good;
  }

  // What is in memory and nothing else must have a pointer.
  int run(std::map<int64_t, void*> data) const {
    std::map<int64_t, std::vector<float>> values;
    for (const auto& [id, operand] : tensors) {
      if (operand.isVirtual != (data.count(id) == 0)) return refuse("pointers do not fit the tensors", static_cast<int>(id));
      if (!operand.isVirtual && reinterpret_cast<uintptr_t>(data[id]) % 16 != 0)
        return refuse("a pointer is not aligned", static_cast<int>(id));
    }
    for (const auto& [id, pointer] : data)
      if (tensors.count(id) == 0) return refuse("a pointer of no tensor", static_cast<int>(id));
    for (const Operation& each : operations) {
      for (int i = 0; i < 3; i++) {
        const int64_t id = each.ids[i];
        if (id == 0) continue;
        if (each.writes[i])
          values[id].assign(tensors.at(id).count(), 0);
        else if (values.count(id) == 0)
          values[id] = tensors.at(id).load(data.at(id));
      }
      compute(each, values);
      for (int i = 0; i < 3; i++) {
        const int64_t id = each.ids[i];
        if (!each.writes[i]) continue;
        const Operand& made = tensors.at(id);
        if (made.type == bf16)
          for (float& value : values[id]) value = roundToBf16(value);
        if (!made.isVirtual) made.store(values[id], data.at(id));
      }
    }
    return good;
  }

 private:
  // One number for one tensor, which operations may share.
  bool take(const Descriptor& from, int64_t& id) {
    Operand operand;
    if (!operand.read(from)) return false;
    id = operand.id;
    const auto [at, isNew] = tensors.emplace(id, operand);
    return id != 0 && (isNew || (at->second.extents == operand.extents && at->second.type == operand.type &&
                                 at->second.isVirtual == operand.isVirtual));
  }

  int readOperation(const Descriptor& own, Operation& to) {
    int64_t(&ids)[3] = to.ids;
    if (own.kind >= forward && own.kind <= inputGradient) {
      // The passes' attributes follow each other in sixes: alpha, beta, how, and three tensors.
      const int first = own.kind == forward ? 700 : own.kind == inputGradient ? 706 : 712;
      if (own.one<float>(first) != 1 || own.one<float>(first + 1) != 0) return refuse("alpha and beta");
      if (!take(own.part(first + 4), ids[0]) || !take(own.part(first + 3), ids[1]) || !take(own.part(first + 5), ids[2]))
        return refuse("a tensor of a convolution");
      to.writes[own.kind == forward ? 2 : own.kind == inputGradient ? 0 : 1] = true;
      const Operand &x = tensors.at(ids[0]), &w = tensors.at(ids[1]), &y = tensors.at(ids[2]);
      if (!to.window.read(own.part(first + 2), x, w, y)) return refuse("extents of a convolution");
      const int read[2] = {to.writes[0] ? w.type : x.type, to.writes[2] ? w.type : y.type};
      return read[0] == read[1] ? good : refuse("operands of two types");
    }
    if (own.kind == pointwiseOperation) {
      to.mode = own.part(750).one<int>(0);
      to.writes[2] = true;
      if (!take(own.part(751), ids[0]) || !take(own.part(753), ids[2])) return refuse("a tensor of a pointwise operation");
      if (own.has(752) && !take(own.part(752), ids[1])) return refuse("the second operand of a pointwise operation");
      const Operand &x = tensors.at(ids[0]), &y = tensors.at(ids[2]);
      if (x.extents != y.extents) return refuse("extents of a pointwise operation");
      return !own.has(752) || tensors.at(ids[1]).isPerChannelOf(y) ? good : refuse("not a number for each channel");
    }
    if (own.kind != statistics) return refuse("no operation", own.kind);
    to.writes[1] = to.writes[2] = true;
    for (int i = 0; i < 3; i++)
      if (!take(own.part(772 + i), ids[i])) return refuse("a tensor of statistics");
    for (int i = 1; i < 3; i++)
      if (!tensors.at(ids[i]).isPerChannelOf(tensors.at(ids[0]))) return refuse("statistics not by channel");
    return good;
  }

  void compute(const Operation& own, std::map<int64_t, std::vector<float>>& values) const {
    if (own.kind >= forward && own.kind <= inputGradient) {
      const Operand &x = tensors.at(own.ids[0]), &w = tensors.at(own.ids[1]), &y = tensors.at(own.ids[2]);
      float *const source = values[x.id].data(), *const weights = values[w.id].data(), *const result = values[y.id].data();
      const int64_t depth = w.channels();
      own.window.forEachRow(x, w, y, [&](int64_t i, int64_t j, int64_t k) {
        if (own.kind == forward)
          for (int64_t c = 0; c < depth; c++) result[k] += source[i + c] * weights[j + c];
        if (own.kind == inputGradient)
          for (int64_t c = 0; c < depth; c++) source[i + c] += result[k] * weights[j + c];
        if (own.kind == weightGradient)
          for (int64_t c = 0; c < depth; c++) weights[j + c] += source[i + c] * result[k];
      });
      return;
    }
    const std::vector<float>& x = values[own.ids[0]];
    const size_t channels = tensors.at(own.ids[0]).channels();
    if (own.kind == statistics) {
      std::vector<float>&sums = values[own.ids[1]], &squares = values[own.ids[2]];
      for (size_t i = 0; i < x.size(); i++) {
        sums[i % channels] += x[i];
        squares[i % channels] += x[i] * x[i];
      }
      return;
    }
    std::vector<float>& y = values[own.ids[2]];
    const float* const b = own.ids[1] != 0 ? values[own.ids[1]].data() : nullptr;
    for (size_t i = 0; i < x.size(); i++)
      y[i] = own.mode == add        ? x[i] + b[i % channels]
             : own.mode == multiply ? x[i] * b[i % channels]
             : own.mode == relu     ? (x[i] < 0 ? 0.0f : x[i])
                                    : x[i];
  }
};

}  // namespace fake
