// Tensors and steps as kernels see them: dense, row-major, no strides, 64-bit extents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace voxgrad {

enum class DType : uint8_t { f32, u8, i32, bf16 };

constexpr int maxRank = 6;

inline size_t bytesOf(DType dtype) { return dtype == DType::u8 ? 1 : dtype == DType::bf16 ? 2 : 4; }

// What a kernel or the executor refuses. `code` becomes the code of the JavaScript error.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;
};

struct Tensor {
  DType dtype = DType::f32;
  int rank = 0;
  int64_t shape[maxRank] = {};
  void* data = nullptr;

  int64_t count() const {
    int64_t product = 1;
    for (int axis = 0; axis < rank; axis++) product *= shape[axis];
    return product;
  }
  size_t bytes() const { return static_cast<size_t>(count()) * bytesOf(dtype); }
  // Extent of the innermost axis: the channels of an activation.
  int64_t channels() const { return rank == 0 ? 1 : shape[rank - 1]; }
  float* f32() const { return static_cast<float*>(data); }
  uint8_t* u8() const { return static_cast<uint8_t*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }
};

bool sameShape(const Tensor& a, const Tensor& b);
// `f32[2,8,8,8,1]`, for messages.
std::string format(const Tensor& tensor);

// The attributes of a step by name; every one is a list of numbers, flags being 0 or 1 and texts absent.
class Attributes {
 public:
  void set(std::string name, std::vector<double> values);
  bool has(const char* name) const;
  // Each throws Error when the attribute is missing or not of the expected form.
  double number(const char* name) const;
  int64_t integer(const char* name) const;
  bool flag(const char* name) const { return number(name) != 0; }
  const std::vector<double>& list(const char* name) const;
  std::vector<int64_t> integers(const char* name, size_t count) const;

 private:
  std::vector<std::pair<std::string, std::vector<double>>> entries_;
};

struct Kernel;

// One kernel call of a plan.
struct Step {
  const Kernel* kernel = nullptr;
  std::vector<Tensor> inputs;
  Tensor output;
  Attributes attributes;
  void* workspace = nullptr;
};

// `prepare` throws Error unless running the step is memory-safe, and returns the bytes of workspace that
// `run` needs; tensor data is not there yet. Whether the step makes sense was decided before, in TypeScript.
// A backend other than the CPU's may leave it out: then the CPU's kernel of that name has to accept the step,
// and `workspace` says how many bytes the kernel needs, none where that is missing too.
// `algorithm`, of kernels that know several, names the one they use for a step that `prepare` accepts;
// `packedFloats`, of kernels that pack weights, is the length of the result, which `prepare` then expects.
// It is 0 where the packed weights would be the weights.
struct Kernel {
  const char* name;
  size_t (*prepare)(const Step& step);
  void (*run)(const Step& step);
  const char* (*algorithm)(const Step& step) = nullptr;
  int64_t (*packedFloats)(const Step& step) = nullptr;
  // How many of the first inputs `run` writes besides the output, element by element; null where it is none.
  size_t (*updates)(const Step& step) = nullptr;
  // Whether a step could normalise its first input as it loads it; null where no step of the kernel can.
  bool (*normalizes)(const Step& step) = nullptr;
  // Whether a step could sum the moments of its output as it stores it; as above.
  bool (*sums)(const Step& step) = nullptr;
  size_t (*workspace)(const Step& step) = nullptr;
  // Of a backend other than the CPU's: the tensors that may be stored as bf16 instead of f32, all of them or
  // none. Bit i is input i, `outputBit` the output.
  uint32_t narrow = 0;
  // The names of the ways of computing a step, of kernels that can be told which one to take: its number
  // then is the step's attribute `way`. The first is what they take otherwise.
  std::vector<std::string> (*ways)(const Step& step) = nullptr;
};

constexpr uint32_t outputBit = uint32_t{1} << 31;

inline size_t updatedInputs(const Step& step) {
  return step.kernel->updates != nullptr ? step.kernel->updates(step) : 0;
}

// Checks for `prepare`; each throws Error("ERR_PLAN") naming the kernel and the tensor found.
void expectInputs(const Step& step, size_t least, size_t most);
void expectDType(const Step& step, const Tensor& tensor, DType dtype);
void expectRank(const Step& step, const Tensor& tensor, int rank);
void expectCount(const Step& step, const Tensor& tensor, int64_t count);
void expectSameShape(const Step& step, const Tensor& a, const Tensor& b);
// The step with those tensors of `narrow` as f32 that are bf16: what is checked of them is the same.
Step widened(const Step& step, uint32_t narrow);
[[noreturn]] void refuse(const Step& step, const std::string& why);

}  // namespace voxgrad
