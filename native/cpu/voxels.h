// What the losses share: voxels with their classes and weights, and tasks over them.
#pragma once

#include "elementwise.h"
#include "rows.h"

namespace voxgrad::cpu {

// Which voxels count, how much, and what class they are: from labels, a mask and class weights, each of which
// may be absent. A voxel whose label is no class does not count, so no label is ever used as an index
// unchecked.
struct Voxels {
  const uint8_t* bytes = nullptr;
  const int32_t* integers = nullptr;
  const uint8_t* mask = nullptr;
  const double* weights = nullptr;
  int32_t ignore = -1;
  uint32_t classes = 0;

  VOXGRAD_INLINE void load(int64_t row, int rows, int32_t* label, float* weight) const {
    for (int r = rows; r < blockRows; r++) label[r] = -1;
    if (bytes != nullptr) {
      for (int r = 0; r < rows; r++) label[r] = bytes[row + r];
    } else if (integers != nullptr) {
      for (int r = 0; r < rows; r++) label[r] = integers[row + r];
    } else {
      for (int r = 0; r < rows; r++) label[r] = 0;
    }
    // Masked voxels get the label -1, without a branch, which random masks would make slow.
    if (mask != nullptr)
      for (int r = 0; r < rows; r++) label[r] |= -static_cast<int32_t>(mask[row + r] == 0);
    for (int r = 0; r < blockRows; r++) {
      // Bitwise: a chain of && would branch. As unsigned, negative labels are above all classes.
      const bool counts = (static_cast<uint32_t>(label[r]) < classes) & (label[r] != ignore);
      weight[r] = counts ? 1.0f : 0.0f;
      label[r] = counts ? label[r] : 0;
    }
    if (weights != nullptr)
      for (int r = 0; r < blockRows; r++) weight[r] *= static_cast<float>(weights[label[r]]);
  }
};

// A range of rows of one loss: a task of at most chunkRows.
struct LossRows {
  Voxels voxels;
  const float* x;
  const float* target;
  float* y;
  double* sums;
  int64_t begin, end;
  int channels;
  int first;
  float factor;
  bool squared;
};

VOXGRAD_INLINE int blockAt(const LossRows& s, int64_t row) {
  return static_cast<int>(s.end - row < blockRows ? s.end - row : blockRows);
}

inline int64_t chunksOf(int64_t rows) { return (rows + chunkRows - 1) / chunkRows; }

template <class F>
inline void forEachChunk(int64_t rows, const LossRows& loss, F f) {
  parallelRange(
      rows,
      [&](int64_t begin, int64_t end) {
        LossRows part = loss;
        part.begin = begin;
        part.end = end;
        f(part);
      },
      chunkRows);
}

// The chunks of `samples` runs of `rows` rows each, none of which holds rows of two samples.
struct SampleChunks {
  int64_t samples, rows, chunk;

  int64_t perSample() const { return (rows + chunk - 1) / chunk; }
  int64_t count() const { return samples * perSample(); }

  // Calls f(sample, task, first row of all, rows of the chunk).
  template <class F>
  void forEach(F f) const {
    parallelFor(count(), [&](int64_t task) {
      const int64_t sample = task / perSample(), begin = task % perSample() * chunk;
      f(sample, task, sample * rows + begin, std::min(chunk, rows - begin));
    });
  }

  // y[sample][i] = the sum over the chunks of a sample, in order, of partial[chunk][i].
  void add(const double* partial, int64_t sums, float* y) const {
    for (int64_t sample = 0; sample < samples; sample++)
      for (int64_t i = 0; i < sums; i++) {
        double total = 0;
        for (int64_t k = 0; k < perSample(); k++) total += partial[(sample * perSample() + k) * sums + i];
        y[sample * sums + i] = static_cast<float>(total);
      }
  }
};

inline void setLabels(const Tensor& labels, Voxels* voxels) {
  if (labels.dtype == DType::u8) voxels->bytes = labels.u8();
  if (labels.dtype == DType::i32) voxels->integers = labels.i32();
}

inline void expectLabels(const Step& step, const Tensor& labels, int64_t rows) {
  if (labels.dtype != DType::u8 && labels.dtype != DType::i32) refuse(step, "labels must be u8 or i32");
  expectCount(step, labels, rows);
}

inline void expectMask(const Step& step, size_t index, int64_t rows) {
  if (step.inputs.size() <= index) return;
  expectDType(step, step.inputs[index], DType::u8);
  expectCount(step, step.inputs[index], rows);
}

inline void expectFloat(const Step& step, const Tensor& tensor, int64_t count) {
  expectDType(step, tensor, DType::f32);
  expectCount(step, tensor, count);
}

// The first input, floats with few channels, which is also what gradients look like.
inline const Tensor& expectVoxelTensor(const Step& step, bool gradient) {
  const Tensor& x = step.inputs[0];
  expectDType(step, x, DType::f32);
  expectFewChannels(step, x);
  expectDType(step, step.output, DType::f32);
  if (gradient) expectSameShape(step, x, step.output);
  return x;
}

inline LossRows lossOf(const Step& step) {
  LossRows loss = {};
  loss.x = step.inputs[0].f32();
  loss.channels = static_cast<int>(step.inputs[0].channels());
  loss.y = step.output.f32();
  loss.voxels.classes = static_cast<uint32_t>(loss.channels);
  return loss;
}

}  // namespace voxgrad::cpu
