// Micro-kernels for the matrix unit. Compiled once per instruction set; see simd.h.
#include "amx_kernels.h"

#include "simd_norm.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

#if defined(__AVX512F__) && defined(__linux__)

constexpr int64_t kTileBytes = 1024, kPartBytes = 2 * kTileBytes, kLineBytes = 64;

#define VOXGRAD_AMX __attribute__((target("amx-tile,amx-bf16")))

VOXGRAD_AMX void begin() {
  // Palette 1, then bytes per line and lines of each of eight tiles.
  struct alignas(64) {
    uint8_t palette, firstRow, reserved[14];
    uint16_t lineBytes[16];
    uint8_t lines[16];
  } config = {};
  config.palette = 1;
  for (int tile = 0; tile < 8; ++tile) config.lineBytes[tile] = kLineBytes, config.lines[tile] = kAmxTileRows;
  // The compiler's own intrinsic does not say that it reads all of it.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

VOXGRAD_AMX void end() { _tile_release(); }

// A tile of the right factor's next step, on its way from the second-level cache.
VOXGRAD_INLINE void fetch(const char* tile) {
#pragma GCC unroll 16
  for (int line = 0; line < kAmxTileRows; ++line) __builtin_prefetch(tile + line * kLineBytes);
}

// Tiles 0 to 3 are sums, 4 and 5 of the left factor, 6 and 7 of the right.
VOXGRAD_AMX void multiply(const AmxProduct& p) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t stride0 = p.sums[0].stride * kFloat, stride1 = p.sums[1].stride * kFloat;
  if (p.sums[0].fresh) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    _tile_loadd(0, p.sums[0].at, stride0);
    _tile_loadd(1, p.sums[0].at + kLanes, stride0);
  }
  if (p.sums[1].fresh) {
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(2, p.sums[1].at, stride1);
    _tile_loadd(3, p.sums[1].at + kLanes, stride1);
  }
  const char *left = p.left, *right = p.right;
#define VOXGRAD_LEFT(part)                              \
  _tile_loadd(4, left + (part)*kPartBytes, kLineBytes); \
  _tile_loadd(5, left + (part)*kPartBytes + kTileBytes, kLineBytes)
#define VOXGRAD_RIGHT(part)                              \
  _tile_loadd(6, right + (part)*kPartBytes, kLineBytes); \
  _tile_loadd(7, right + (part)*kPartBytes + kTileBytes, kLineBytes)
#define VOXGRAD_PRODUCT            \
  fetch(next), next += kTileBytes; \
  _tile_dpbf16ps(0, 4, 6);         \
  _tile_dpbf16ps(1, 4, 7);         \
  _tile_dpbf16ps(2, 5, 6);         \
  _tile_dpbf16ps(3, 5, 7)
  const char* next = right + kAmxStepBytes;
  for (int64_t step = 0; step < p.steps; ++step, left += kAmxStepBytes, right += kAmxStepBytes) {
    VOXGRAD_LEFT(0);
    VOXGRAD_RIGHT(2);
    VOXGRAD_PRODUCT;
    VOXGRAD_RIGHT(1);
    VOXGRAD_PRODUCT;
    VOXGRAD_RIGHT(0);
    VOXGRAD_PRODUCT;
    VOXGRAD_LEFT(1);
    VOXGRAD_PRODUCT;
    VOXGRAD_RIGHT(1);
    VOXGRAD_PRODUCT;
    VOXGRAD_LEFT(2);
    VOXGRAD_RIGHT(0);
    VOXGRAD_PRODUCT;
  }
#undef VOXGRAD_LEFT
#undef VOXGRAD_RIGHT
#undef VOXGRAD_PRODUCT
  _tile_stored(0, p.sums[0].at, stride0);
  _tile_stored(1, p.sums[0].at + kLanes, stride0);
  _tile_stored(2, p.sums[1].at, stride1);
  _tile_stored(3, p.sums[1].at + kLanes, stride1);
}

constexpr int32_t kUpper = static_cast<int32_t>(0xFFFF0000);

VOXGRAD_INLINE vfloat firstPart(vfloat v) {
  return reinterpret_cast<vfloat>(reinterpret_cast<vint>(v) & kUpper);
}

// One line of a step, all parts: `low` is the first of each pair, `high` the second.
VOXGRAD_INLINE void splitLine(char* to, vfloat low, vfloat high) {
  typedef uint32_t vunsigned __attribute__((vector_size(4 * kLanes)));
#pragma GCC unroll 3
  for (int part = 0; part < 3; ++part) {
    const vint both = reinterpret_cast<vint>(reinterpret_cast<vunsigned>(low) >> 16) |
                      (reinterpret_cast<vint>(high) & kUpper);
    memcpy(to + part * kPartBytes, &both, sizeof both);
    low -= firstPart(low);
    high -= firstPart(high);
  }
}

VOXGRAD_INLINE vfloat loadNormalized(const float* from, int64_t at, int64_t end, const SourceNorm* norm) {
  if (at >= end) return vfloat{};
  const vfloat x = loadFirst(from + at, end - at);
  return norm ? normRelu(x, loadNorm(*norm, at)) : x;
}

VOXGRAD_INLINE char* lineOf(char* step, int64_t row) { return step + row * kLineBytes; }

void splitRows(char* to, const float* const* rows, int64_t floats, const SourceNorm* norm) {
  for (int64_t row = 0; row < kAmxRows; ++row) {
    char* line = lineOf(to, row);
    const float* const from = rows[row];
    for (int64_t at = 0; at < floats; at += kAmxDepth, line += kAmxStepBytes) {
      if (!from) {
        splitLine(line, vfloat{}, vfloat{});
      } else if (!norm && at + kAmxDepth <= floats) {
        splitLine(line, load(from + at), load(from + at + kLanes));
      } else {
        splitLine(line, loadNormalized(from, at, floats, norm),
                  loadNormalized(from, at + kLanes, floats, norm));
      }
    }
  }
}

void splitColumns(char* to, int64_t blockBytes, const float* const* rows, int64_t columns,
                  const SourceNorm* norm) {
  for (int64_t pair = 0; pair < kLanes; ++pair) {
    const float *const low = rows[pair], *const high = rows[pair + kLanes];
    char* line = lineOf(to, pair);
    for (int64_t at = 0; at < columns; at += kAmxColumns, line += blockBytes) {
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t column = at + half * kLanes;
        splitLine(line + half * kTileBytes, low ? loadNormalized(low, column, columns, norm) : vfloat{},
                  high ? loadNormalized(high, column, columns, norm) : vfloat{});
      }
    }
  }
}

// Sixteen lines of a step: line i holds the i-th of the floats of each row.
VOXGRAD_INLINE void splitTile(char* to, const float* const* lowRows, const float* const* highRows, int64_t at,
                              int64_t atHigh, int64_t end) {
  vfloat low[kLanes], high[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    low[i] = lowRows[i] ? loadNormalized(lowRows[i], at, end, nullptr) : vfloat{};
    high[i] = highRows[i] ? loadNormalized(highRows[i], atHigh, end, nullptr) : vfloat{};
  }
  transpose(low);
  transpose(high);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) splitLine(lineOf(to, i), low[i], high[i]);
}

void splitFilters(char* to, const float* const* columns, int64_t floats) {
  for (int64_t at = 0; at < floats; at += kAmxDepth, to += kAmxStepBytes) {
    for (int64_t half = 0; half < 2; ++half) {
      const float* const* const own = columns + half * kLanes;
      splitTile(to + half * kTileBytes, own, own, at, at + kLanes, floats);
    }
  }
}

void splitTransposed(char* to, int64_t blockBytes, const float* const* depths, int64_t rows) {
  for (int64_t at = 0; at < rows; at += kAmxRows, to += blockBytes) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t row = at + half * kLanes;
      splitTile(to + half * kTileBytes, depths, depths + kLanes, row, row, rows);
    }
  }
}

constexpr AmxKernels kTable = {begin, multiply, end, splitRows, splitColumns, splitFilters, splitTransposed};

#else

constexpr AmxKernels kTable = {};

#endif

}  // namespace

const AmxKernels& amxKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
