// Joining and cutting along an axis: copies of blocks of bytes, for any element type.
#include "cuda.h"
#include "index.h"
#include "kernels.h"
#include "pack.h"

namespace voxgrad::cuda {
namespace {

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

// All in numbers of T, as below.
template <class T>
struct CopyRows {
  const T* from;
  int64_t fromStride;
  Divisor width;
  T* to;
  int64_t toStride;
  __device__ void operator()(int64_t i) const {
    int64_t row = i;
    const int64_t at = width.split(&row);
    to[row * toStride + at] = from[row * fromStride + at];
  }
};

template <class T>
void copyRowsAs(const char* name, char* to, int64_t toStride, const char* from, int64_t fromStride,
                int64_t bytes, int64_t rows) {
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  forEach(name, rows * bytes / size,
          CopyRows<T>{reinterpret_cast<const T*>(from), fromStride / size, Divisor(bytes / size),
                      reinterpret_cast<T*>(to), toStride / size});
}

// Copies `rows` blocks of `bytes`, which lie as many bytes apart as the strides say.
void copyRows(const char* name, char* to, int64_t toStride, const char* from, int64_t fromStride,
              int64_t bytes, int64_t rows) {
  const auto fits = [&](int64_t size) {
    return allMultiples({addressOf(to), toStride, addressOf(from), fromStride, bytes}, size);
  };
  const auto copy = fits(16) ? copyRowsAs<uint4> : fits(4) ? copyRowsAs<uint32_t> : copyRowsAs<uint8_t>;
  copy(name, to, toStride, from, fromStride, bytes, rows);
}

void runConcat(const Step& step) {
  const int64_t axis = step.attributes.integer("axis");
  const Rows to(step.output, axis);
  char* y = static_cast<char*>(step.output.data);
  for (const Tensor& input : step.inputs) {
    const Rows from(input, axis);
    copyRows("concat", y, to.bytes, static_cast<const char*>(input.data), from.bytes, from.bytes, to.rows);
    y += from.bytes;
  }
}

void runSlice(const Step& step) {
  const int64_t axis = step.attributes.integer("axis");
  const Rows from(step.inputs[0], axis), to(step.output, axis);
  const char* x =
      static_cast<const char*>(step.inputs[0].data) + step.attributes.integer("start") * from.unit;
  copyRows("slice", static_cast<char*>(step.output.data), to.bytes, x, from.bytes, to.bytes, to.rows);
}

// Rows of `inner`, of which those from `before` on come from `from`; zeros elsewhere.
template <class T>
struct PadRows {
  const T* from;
  int64_t before, inner;
  Divisor width;
  T* to;
  __device__ void operator()(int64_t i) const {
    int64_t row = i;
    const int64_t at = width.split(&row) - before;
    to[i] = at >= 0 && at < inner ? from[row * inner + at] : T{};
  }
};

template <class T>
void padRowsAs(const Step& step, const Rows& to, int64_t before, int64_t inner) {
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  forEach("padSlice", to.rows * to.bytes / size,
          PadRows<T>{static_cast<const T*>(step.inputs[0].data), before / size, inner / size,
                     Divisor(to.bytes / size), static_cast<T*>(step.output.data)});
}

void runPadSlice(const Step& step) {
  const int64_t axis = step.attributes.integer("axis");
  const Rows from(step.inputs[0], axis), to(step.output, axis);
  const int64_t before = step.attributes.integer("start") * to.unit;
  const auto fits = [&](int64_t size) {
    return allMultiples(
        {addressOf(step.inputs[0].data), addressOf(step.output.data), before, from.bytes, to.bytes}, size);
  };
  const auto pad = fits(16) ? padRowsAs<uint4> : fits(4) ? padRowsAs<uint32_t> : padRowsAs<uint8_t>;
  pad(step, to, before, from.bytes);
}

}  // namespace

const KernelTable shapeKernels = {
    kernel("concat", runConcat),
    kernel("slice", runSlice),
    kernel("padSlice", runPadSlice),
};

}  // namespace voxgrad::cuda
