// Work on voxels with few channels: 64 rows of [.., C] at a time, turned so that the rows lie side by side
// and fill the vector registers whatever C is.
#pragma once

#include "../core/tensor.h"
#include "clones.h"
#include "math.h"

namespace voxgrad::cpu {

constexpr int blockRows = 64;
// Rows of one task and of one partial sum: fixed, so that the order of additions depends on the shape alone.
constexpr int64_t chunkRows = 1024;
// The same where the kernels of an instruction set add in short blocks of their own.
constexpr int64_t taskRows = 4096;
// What fits a thread's stack comfortably; also the number of classes that byte labels can name.
constexpr int mostChannels = 256;

inline int64_t rowsOf(const Tensor& tensor) { return tensor.count() / tensor.channels(); }

inline void expectFewChannels(const Step& step, const Tensor& tensor) {
  if (tensor.rank < 1 || tensor.channels() > mostChannels) refuse(step, "at most 256 channels");
}

// Defines name(args) from the template nameBody<C>(args), compiled for the usual channel counts, 0 being any.
#define VOXGRAD_BY_CHANNELS(name, Args)                                       \
  VOXGRAD_CLONES static void name##Of2(const Args& a) { name##Body<2>(a); }   \
  VOXGRAD_CLONES static void name##Of3(const Args& a) { name##Body<3>(a); }   \
  VOXGRAD_CLONES static void name##Of14(const Args& a) { name##Body<14>(a); } \
  VOXGRAD_CLONES static void name##OfAny(const Args& a) { name##Body<0>(a); } \
  static void name(const Args& a) {                                           \
    if (a.channels == 2) return name##Of2(a);                                 \
    if (a.channels == 3) return name##Of3(a);                                 \
    if (a.channels == 14) return name##Of14(a);                               \
    name##OfAny(a);                                                           \
  }

// Floats for a block of C channels, 0 being any number.
template <int C>
constexpr int blockFloats = (C > 0 ? C : mostChannels) * blockRows;

// block[c][r] = x[r][c] for the first `rows` rows, zeros for the rest.
template <int C>
VOXGRAD_INLINE void loadRows(const float* x, int channels, int rows, float* block) {
  const int count = C > 0 ? C : channels;
  if (rows == blockRows) {
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) block[c * blockRows + r] = x[r * count + c];
  } else {
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) block[c * blockRows + r] = r < rows ? x[r * count + c] : 0.0f;
  }
}

// y[r][c] = block[c][r] for the first `rows` rows.
template <int C>
VOXGRAD_INLINE void storeRows(const float* block, int channels, int rows, float* y) {
  const int count = C > 0 ? C : channels;
  if (rows == blockRows) {
    for (int c = 0; c < count; c++)
      for (int r = 0; r < blockRows; r++) y[r * count + c] = block[c * blockRows + r];
  } else {
    for (int c = 0; c < count; c++)
      for (int r = 0; r < rows; r++) y[r * count + c] = block[c * blockRows + r];
  }
}

// largest[r] = max over c of block[c][r]; NaN makes the later exponentials NaN.
template <int C>
VOXGRAD_INLINE void rowMaxima(const float* block, int channels, float* largest) {
  const int count = C > 0 ? C : channels;
  for (int r = 0; r < blockRows; r++) largest[r] = block[r];
  for (int c = 1; c < count; c++)
    for (int r = 0; r < blockRows; r++) {
      const float x = block[c * blockRows + r];
      largest[r] = x > largest[r] ? x : largest[r];
    }
}

// total[r] = sum over c of e(c, r) = exp(factor * (block[c][r] - largest[r])); `powers`, which may be the
// block itself or null, takes the e(c, r).
template <int C>
VOXGRAD_INLINE void rowExponentials(const float* block, int channels, float factor, const float* largest,
                                    float* total, float* powers) {
  const int count = C > 0 ? C : channels;
  for (int r = 0; r < blockRows; r++) total[r] = 0;
  for (int c = 0; c < count; c++) {
    VOXGRAD_INDEPENDENT
    for (int r = 0; r < blockRows; r++) {
      const float e = expOf(factor * (block[c * blockRows + r] - largest[r]));
      total[r] += e;
      if (powers != nullptr) powers[c * blockRows + r] = e;
    }
  }
}

}  // namespace voxgrad::cpu
