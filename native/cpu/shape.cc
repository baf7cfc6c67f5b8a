// Joining and cutting along an axis: copies of blocks of bytes, for any element type.
#include <algorithm>
#include <cstring>

#include "elementwise.h"
#include "kernels.h"

namespace voxgrad::cpu {

static constexpr int64_t chunkBytes = 1 << 17;

// Writes `rows` blocks of `bytes` that lie `toStride` bytes apart: copies of blocks `fromStride` apart, or
// zeros when `from` is null. Blocks without gaps are one block.
static void writeRows(char* to, int64_t toStride, const char* from, int64_t fromStride, int64_t bytes,
                      int64_t rows) {
  if (bytes == 0) return;
  if (bytes == toStride && bytes == fromStride) {
    bytes *= rows;
    rows = 1;
  }
  const int64_t pieces = (bytes + chunkBytes - 1) / chunkBytes;
  parallelRange(
      rows * pieces,
      [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const int64_t row = i / pieces, offset = i % pieces * chunkBytes;
          const size_t length = static_cast<size_t>(std::min(chunkBytes, bytes - offset));
          if (from == nullptr)
            std::memset(to + row * toStride + offset, 0, length);
          else
            std::memcpy(to + row * toStride + offset, from + row * fromStride + offset, length);
        }
      },
      std::max<int64_t>(1, chunkBytes / bytes));
}

// A tensor seen from one axis: `rows` of `bytes`, each holding the extent of the axis times `unit` bytes.
struct Rows {
  int64_t rows = 1, bytes;
  int64_t unit;

  Rows(const Tensor& tensor, int64_t axis) : unit(static_cast<int64_t>(bytesOf(tensor.dtype))) {
    for (int64_t i = 0; i < axis; i++) rows *= tensor.shape[i];
    for (int64_t i = axis + 1; i < tensor.rank; i++) unit *= tensor.shape[i];
    bytes = unit * tensor.shape[axis];
  }
};

// The axis of a step, once all its tensors are known to agree in element type and in all other extents.
static int64_t axisOf(const Step& step) {
  const Tensor& output = step.output;
  const int64_t axis = step.attributes.integer("axis");
  if (axis < 0 || axis >= output.rank) refuse(step, "there is no axis " + std::to_string(axis));
  for (const Tensor& input : step.inputs) {
    expectDType(step, input, output.dtype);
    expectRank(step, input, output.rank);
    for (int i = 0; i < output.rank; i++)
      if (i != axis && input.shape[i] != output.shape[i])
        refuse(step, "extents differ beside axis " + std::to_string(axis));
  }
  return axis;
}

static size_t prepareConcat(const Step& step) {
  if (step.inputs.empty()) refuse(step, "nothing to join");
  const int64_t axis = axisOf(step);
  int64_t extent = 0;
  for (const Tensor& input : step.inputs) extent += input.shape[axis];
  if (extent != step.output.shape[axis]) refuse(step, "the extents do not add up");
  return 0;
}

static void runConcat(const Step& step) {
  const int64_t axis = axisOf(step);
  const Rows to(step.output, axis);
  char* y = static_cast<char*>(step.output.data);
  for (const Tensor& input : step.inputs) {
    const Rows from(input, axis);
    writeRows(y, to.bytes, static_cast<const char*>(input.data), from.bytes, from.bytes, to.rows);
    y += from.bytes;
  }
}

// `whole` must hold `part` from index `start` of the axis.
static size_t prepareCut(const Step& step, const Tensor& whole, const Tensor& part) {
  const int64_t axis = axisOf(step), start = step.attributes.integer("start");
  if (start < 0 || part.shape[axis] > whole.shape[axis] || start > whole.shape[axis] - part.shape[axis])
    refuse(step, "the slice from " + std::to_string(start) + " lies outside the axis");
  return 0;
}

static size_t prepareSlice(const Step& step) {
  expectInputs(step, 1, 1);
  return prepareCut(step, step.inputs[0], step.output);
}

static void runSlice(const Step& step) {
  const int64_t axis = axisOf(step);
  const Rows from(step.inputs[0], axis), to(step.output, axis);
  const char* x =
      static_cast<const char*>(step.inputs[0].data) + step.attributes.integer("start") * from.unit;
  writeRows(static_cast<char*>(step.output.data), to.bytes, x, from.bytes, to.bytes, to.rows);
}

static size_t preparePadSlice(const Step& step) {
  expectInputs(step, 1, 1);
  return prepareCut(step, step.output, step.inputs[0]);
}

static void runPadSlice(const Step& step) {
  const int64_t axis = axisOf(step);
  const Rows from(step.inputs[0], axis), to(step.output, axis);
  const int64_t before = step.attributes.integer("start") * to.unit, after = to.bytes - before - from.bytes;
  char* y = static_cast<char*>(step.output.data);
  writeRows(y, to.bytes, nullptr, to.bytes, before, to.rows);
  writeRows(y + before, to.bytes, static_cast<const char*>(step.inputs[0].data), from.bytes, from.bytes,
            to.rows);
  writeRows(y + before + from.bytes, to.bytes, nullptr, to.bytes, after, to.rows);
}

const KernelTable shapeKernels = {
    {"concat", prepareConcat, runConcat},
    {"slice", prepareSlice, runSlice},
    {"padSlice", preparePadSlice, runPadSlice},
};

}  // namespace voxgrad::cpu
