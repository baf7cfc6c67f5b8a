// The table of micro-kernels for the matrix unit of x86 (AMX), which multiplies tiles of bfloat16 and adds in
// float. Plain data only: sources of every instruction set include this file.
//
// A float is cut, without rounding, into three parts of eight significant bits, each a bfloat16: x = x1 + x2
// + x3. Of the nine products of parts the six largest are taken, x1y1, x1y2, x2y1, x2y2, x1y3 and x3y1; what
// is left out is below 2^-21 of the product, near a float's own rounding (Henry, Tang, Heinecke, "Leveraging
// the bfloat16 Artificial Intelligence Datatype for Higher-Precision Computations", 2019). Six products of
// sixteen times the rate leave 2.6 times that of multiply-adds of floats.
//
// A product is of `kAmxRows` rows times `kAmxColumns` columns over a depth that is cut into steps of
// `kAmxDepth`. Either factor lies in panels, a step behind the other; a step holds [parts 3][tiles 2][16
// lines][16 pairs of bfloat16]. A pair is of the elements i and i + 16 of the step's depth: a line of the
// left factor is a row with its 16 pairs, a line of the right factor a pair with its 16 columns.
#pragma once

#include <stdint.h>

#include "source_norm.h"

namespace voxgrad {
namespace cpu {

constexpr int64_t kAmxRows = 32, kAmxColumns = 32, kAmxDepth = 32;
constexpr int64_t kAmxTileRows = 16;
constexpr int64_t kAmxStepBytes = 3 * 2 * 1024;

struct AmxProduct {
  const char *left, *right;  // panels
  int64_t steps;
  // Of each half of the rows: [16][stride floats], 32 of them used, added to unless they are fresh.
  struct {
    float* at;
    int64_t stride;
    bool fresh;
  } sums[2];
};

struct AmxKernels {
  // Between them, in one thread, come calls of `multiply`. All are null where the instruction set lacks AMX.
  void (*begin)();
  void (*multiply)(const AmxProduct&);
  void (*end)();

  // Panels of rows of `floats` floats along the depth, which zeros fill up to whole steps; a null row is of
  // zeros. The norm may be null.
  void (*splitRows)(char* to, const float* const* rows, int64_t floats, const SourceNorm* norm);

  // A step of the right factor from rows that hold the columns, one for each of the `kAmxDepth` elements;
  // `blockBytes` lie between panels of neighbouring blocks of columns. The norm may be null.
  void (*splitColumns)(char* to, int64_t blockBytes, const float* const* rows, int64_t columns,
                       const SourceNorm* norm);

  // Panels of the right factor from columns that lie along the depth.
  void (*splitFilters)(char* to, const float* const* columns, int64_t floats);

  // A step of the left factor from rows that hold its rows, one for each element of the depth.
  void (*splitTransposed)(char* to, int64_t blockBytes, const float* const* depths, int64_t rows);
};

}  // namespace cpu
}  // namespace voxgrad
