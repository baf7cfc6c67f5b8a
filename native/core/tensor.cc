#include "tensor.h"

#include <cmath>

namespace voxgrad {

bool sameShape(const Tensor& a, const Tensor& b) {
  if (a.rank != b.rank) return false;
  for (int axis = 0; axis < a.rank; axis++)
    if (a.shape[axis] != b.shape[axis]) return false;
  return true;
}

std::string format(const Tensor& tensor) {
  const char* names[] = {"f32", "u8", "i32"};
  std::string text = names[static_cast<int>(tensor.dtype)];
  text += '[';
  for (int axis = 0; axis < tensor.rank; axis++) {
    if (axis > 0) text += ',';
    text += std::to_string(tensor.shape[axis]);
  }
  return text + ']';
}

void Attributes::set(std::string name, std::vector<double> values) {
  entries_.emplace_back(std::move(name), std::move(values));
}

const std::vector<double>& Attributes::list(const char* name) const {
  for (const auto& [key, values] : entries_)
    if (key == name) return values;
  throw Error("ERR_PLAN", std::string("attribute ") + name + " is missing");
}

bool Attributes::has(const char* name) const {
  for (const auto& entry : entries_)
    if (entry.first == name) return true;
  return false;
}

double Attributes::number(const char* name) const {
  const auto& values = list(name);
  if (values.size() != 1) throw Error("ERR_PLAN", std::string("attribute ") + name + " is not a number");
  return values[0];
}

static int64_t toInteger(const char* name, double value) {
  if (!(std::fabs(value) <= 9007199254740991.0) || value != std::floor(value))
    throw Error("ERR_PLAN", std::string("attribute ") + name + " is not a whole number");
  return static_cast<int64_t>(value);
}

int64_t Attributes::integer(const char* name) const { return toInteger(name, number(name)); }

std::vector<int64_t> Attributes::integers(const char* name, size_t count) const {
  const auto& values = list(name);
  if (values.size() != count)
    throw Error("ERR_PLAN",
                std::string("attribute ") + name + " needs " + std::to_string(count) + " numbers");
  std::vector<int64_t> whole;
  for (double value : values) whole.push_back(toInteger(name, value));
  return whole;
}

void refuse(const Step& step, const std::string& why) {
  std::string text = std::string(step.kernel ? step.kernel->name : "?") + ": " + why + " (inputs";
  for (const Tensor& input : step.inputs) text += " " + format(input);
  throw Error("ERR_PLAN", text + ", output " + format(step.output) + ")");
}

void expectInputs(const Step& step, size_t least, size_t most) {
  if (step.inputs.size() < least || step.inputs.size() > most) refuse(step, "wrong number of inputs");
}

void expectDType(const Step& step, const Tensor& tensor, DType dtype) {
  if (tensor.dtype != dtype) refuse(step, "unexpected element type " + format(tensor));
}

void expectRank(const Step& step, const Tensor& tensor, int rank) {
  if (tensor.rank != rank)
    refuse(step, "expected " + std::to_string(rank) + " axes, found " + format(tensor));
}

void expectCount(const Step& step, const Tensor& tensor, int64_t count) {
  if (tensor.count() != count)
    refuse(step, "expected " + std::to_string(count) + " elements, found " + format(tensor));
}

void expectSameShape(const Step& step, const Tensor& a, const Tensor& b) {
  if (!sameShape(a, b)) refuse(step, "shapes differ: " + format(a) + " and " + format(b));
}

}  // namespace voxgrad
