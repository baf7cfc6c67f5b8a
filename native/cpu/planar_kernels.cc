// Micro-kernels of convolutions to a few channels that turn their source to planar rows. Compiled once per
// instruction set; see simd.h.
#include "planar_kernels.h"

#include "simd.h"
#include "winograd_transforms.h"

namespace voxgrad {
namespace cpu {
namespace VOXGRAD_ISA_NAME {
namespace {

// Voxels and channels of a row at once.
struct Square {
  alignas(64) float lines[kLanes][kLanes];
};

VOXGRAD_INLINE void storeTurned(const float* lines, int64_t next, float* to, int64_t pitch) {
  vfloat rows[kLanes];
  loadTransposed(lines, next, rows);
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    float* const four = const_cast<float*>(opaque(to + i * pitch));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) store(four + j * pitch, rows[i + j]);
  }
}

// Calls for all squares of a row: the offset of each in the source, its place in the planes, its voxels and
// channels.
template <typename Visit>
VOXGRAD_INLINE void forEachSquare(const PlanarRow& row, Visit visit) {
  for (int64_t voxel = 0; voxel < row.voxels; voxel += kLanes) {
    for (int64_t c = 0; c < row.channels; c += kLanes)
      visit(voxel * row.voxelFloats + c, row.planes + c * row.pitch + voxel, row.voxels - voxel,
            row.channels - c);
  }
}

void turn(const PlanarRow& row) {
  const int64_t next = row.voxelFloats;
  forEachSquare(
      row, [&](int64_t offset, float* to, int64_t voxels, int64_t channels) __attribute__((always_inline)) {
        const float* const from = row.sources[0] + offset;
        if (voxels >= kLanes && channels >= kLanes) {
          storeTurned(from, next, to, row.pitch);
          return;
        }
        Square square;
        for (int i = 0; i < kLanes; ++i)
          store(square.lines[i], i < voxels ? loadFirst(from + i * next, channels) : vfloat{});
        storeTurned(square.lines[0], kLanes, to, row.pitch);
      });
}

void turnTile(const PlanarRow& row) {
  const int64_t next = row.voxelFloats;
  forEachSquare(
      row, [&](int64_t offset, float* to, int64_t voxels, int64_t channels) __attribute__((always_inline)) {
        Square squares[kPlanarTile];
        for (int i = 0; i < kLanes; ++i) {
          vfloat sources[kPlanarTile];
          if (voxels >= kLanes && channels >= kLanes) {
#pragma GCC unroll 6
            for (int j = 0; j < kPlanarTile; ++j) sources[j] = load(row.sources[j] + offset + i * next);
          } else {
            for (int j = 0; j < kPlanarTile; ++j)
              sources[j] = i < voxels ? loadFirst(row.sources[j] + offset + i * next, channels) : vfloat{};
          }
          transformSource(sources);
#pragma GCC unroll 6
          for (int j = 0; j < kPlanarTile; ++j) store(squares[j].lines[i], sources[j]);
        }
        for (int j = 0; j < kPlanarTile; ++j)
          storeTurned(squares[j].lines[0], kLanes, to + j * row.pointFloats, row.pitch);
      });
}

// Lanes are voxels along a row. Every vector of the source is read once for all rows of outputs. What it adds
// is summed by itself first, which keeps the sums exact.
template <int Rows, int Vectors>
VOXGRAD_INLINE void addVectors(const PlanarProduct& product, int64_t first) {
  vfloat sums[Rows][Vectors] = {};
  const float* weights = product.weights;
  const float* const planes = product.planes + first;
  const float *ahead = product.fetch->next, *const end = product.fetch->end;
  for (int64_t c = 0; c < product.channels; ++c) {
    const float* from = planes + c * product.pitch;
    for (int64_t tap = 0; tap < product.taps; ++tap) {
      if (ahead < end) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += 16;
      }
      if constexpr (Rows > Vectors) {
        vfloat sources[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sources[v] = load(from + v * kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) {
          const vfloat factor = broadcast(weights + r);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) multiplyAdd(&sums[r][v], sources[v], factor);
        }
      } else {
        vfloat factors[Rows];
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) factors[r] = broadcast(weights + r);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          const vfloat source = load(from + v * kLanes);
#pragma GCC unroll 4
          for (int r = 0; r < Rows; ++r) multiplyAdd(&sums[r][v], source, factors[r]);
        }
      }
      from += product.tapStep;
      weights += product.weightStep;
    }
  }
  product.fetch->next = ahead;
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      float* const to = product.sums[r] + first + v * kLanes;
      store(to, load(to) + sums[r][v]);
    }
  }
}

// As many vectors at a time as have their sums in registers, beside a source and the weights.
template <int Rows>
void addRows(const PlanarProduct& product) {
  constexpr int kVectors = Rows == 4 && kLanes < 16 ? 3 : 4;
  int64_t vector = 0;
  for (; vector + kVectors <= product.vectors; vector += kVectors)
    addVectors<Rows, kVectors>(product, vector * kLanes);
  const int64_t left = product.vectors - vector;
  if (left == 3) addVectors<Rows, 3>(product, vector * kLanes);
  if (left == 2) addVectors<Rows, 2>(product, vector * kLanes);
  if (left == 1) addVectors<Rows, 1>(product, vector * kLanes);
}

template <int From, int To, typename Transform>
VOXGRAD_INLINE void transformAll(const PlanarTransform& slabs, Transform transformOne) {
  for (int64_t at = 0; at < slabs.floats; at += kLanes) {
    vfloat from[From], to[To];
#pragma GCC unroll 6
    for (int i = 0; i < From; ++i) from[i] = load(slabs.from[i] + at);
    transformOne(from, to);
#pragma GCC unroll 6
    for (int i = 0; i < To; ++i) store(slabs.to + i * slabs.toStep + at, to[i]);
  }
}

void filters(const PlanarTransform& taps) {
  transformAll<3, 6>(
      taps,
      [](vfloat(&from)[3], vfloat(&to)[6]) __attribute__((always_inline)) { transformFilter(from, to); });
}

void outputs(const PlanarTransform& sums) {
  transformAll<6, 4>(
      sums,
      [](vfloat(&from)[6], vfloat(&to)[4]) __attribute__((always_inline)) { transformOutput(from, to); });
}

constexpr PlanarKernels kTable = {kLanes, filters,  outputs,
                                  turn,   turnTile, {addRows<1>, addRows<2>, addRows<3>, addRows<4>}};

}  // namespace

const PlanarKernels& planarKernels() { return kTable; }

}  // namespace VOXGRAD_ISA_NAME
}  // namespace cpu
}  // namespace voxgrad
