#include "conv3d_planar.h"

#include <vector>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kTileRows = 4, kTileTaps = 3;  // of a Winograd tile

}  // namespace

// Planes and rows [firstPlane, endPlane) x [firstRow, endRow) of the outputs of a sample, and the scratch of
// a task. A plane of outputs has sums while the planes of the source that it reads pass by.
struct Planar::Block {
  int64_t sample, firstPlane, endPlane, firstRow, endRow;
  const float* packed;
  float* sums;         // [window][lines][K][sumPitch]: planes of outputs take turns
  int64_t window;      // planes of outputs that a plane of the source may add to
  float* planes;       // a row of the source, or the points of some: [points][chunk][planePitch]
  const float* zeros;  // a row outside of the source
  PlanarFetch* fetch;

  int64_t rows() const { return endRow - firstRow; }
};

bool Planar::fits(const Conv3dProblem& p) {
  constexpr int64_t kMostChannels = 4, kMostReach = 8, kLongestRow = 4096;
  if (p.groups != 1 || p.K > kMostChannels) return false;
  const int64_t kernel[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t reach = (kernel[axis] - 1) * p.dilation[axis];
    if (p.stride[axis] != 1 || reach > kMostReach || p.pad[axis] > reach) return false;
  }
  // Kernels of fewer rows and shorter ones do not keep the registers busy.
  return p.R * p.K > 1 && p.taps() > 1 && p.Q > planarKernels().lanes && p.W <= kLongestRow &&
         2 * p.C >= planarKernels().lanes;
}

bool Planar::canTransform(const Conv3dProblem& p) {
  return p.S == kTileTaps && p.dilation[1] == 1 && p.P >= kTileRows;
}

double Planar::cost(const Conv3dProblem& p, bool transforms) {
  const double product = transforms ? 1.2 * kPlanarTile / kTileRows : 1.15 * static_cast<double>(p.S);
  const double turn = transforms ? 14 : 8, store = p.K > 1 ? 12 * static_cast<double>(p.K) : 0;
  const double source = product * static_cast<double>(p.R * p.T * p.K) + turn;
  return static_cast<double>(p.N * p.Z * p.P * divideUp(p.Q, planarKernels().lanes)) *
         (static_cast<double>(p.C) * source + store);
}

Planar::Planar(const Conv3dProblem& p, bool transforms)
    : problem_(p),
      kernels_(planarKernels()),
      transforms_(transforms),
      parts_(transforms ? kPlanarTile : p.S) {
  constexpr int64_t kPlaneFloats = 6144, kFewestTasks = 8, kFewestPlanes = 8, kMostRows = 16;
  const int64_t lanes = kernels_.lanes;
  const auto toVectors = [lanes](int64_t count) { return divideUp(count, lanes) * lanes; };
  partFloats_ = toVectors(p.C * p.T * p.R * p.K);
  sumPitch_ = toVectors(p.Q);
  lead_ = toVectors(p.pad[2]);
  // An odd number of vectors, so that channels lie in different sets of the cache.
  const int64_t reach = lead_ + std::max(toVectors(p.W), sumPitch_ + (p.T - 1) * p.dilation[2] - p.pad[2]);
  planePitch_ = (divideUp(reach, lanes) | 1) * lanes;
  const int64_t most = std::max(kPlaneFloats / planePitch_ / lanes * lanes, 2 * lanes);
  chunk_ = toVectors(divideUp(p.C, divideUp(p.C, most)));
  const auto columns = [&] { return p.N * divideUp(p.P, blockRows_); };
  blockRows_ = std::min(p.P, kMostRows);
  if (columns() * divideUp(p.Z, kFewestPlanes) < kFewestTasks) blockRows_ = std::min(p.P, kMostRows / 2);
  const int64_t planes = divideUp(p.Z, divideUp(kFewestTasks, columns()));
  blockPlanes_ = std::min(p.Z, std::max(planes, kFewestPlanes));
}

int64_t Planar::linesOf(int64_t rows) const {
  return transforms_ ? divideUp(rows, kTileRows) * kPlanarTile : rows;
}

// [S][C][T][R][K]: the taps along D and the channels of outputs are the rows that a kernel takes.
void Planar::packTaps(const float* w, float* packed) const {
  const int64_t R = problem_.R, S = problem_.S, T = problem_.T, C = problem_.C, K = problem_.K;
  for (int64_t k = 0; k < K; ++k)
    for (int64_t r = 0; r < R; ++r)
      for (int64_t s = 0; s < S; ++s)
        for (int64_t t = 0; t < T; ++t, w += C)
          for (int64_t c = 0; c < C; ++c) packed[s * partFloats_ + ((c * T + t) * R + r) * K + k] = w[c];
}

void Planar::pack(const float* w, float* packed) const {
  std::fill_n(packed, packedFloats(), 0.0f);
  if (!transforms_) {
    packTaps(w, packed);
    return;
  }
  std::vector<float> taps(static_cast<size_t>(kTileTaps * partFloats_));
  packTaps(w, taps.data());
  const float* const from = taps.data();
  kernels_.transformFilter(
      {{from, from + partFloats_, from + 2 * partFloats_}, packed, partFloats_, partFloats_});
}

// Calls for every part of the channels of the source that is turned at once: the first of them, and their
// number.
template <typename Visit>
void Planar::forEachChunk(Visit visit) const {
  for (int64_t first = 0; first < problem_.C; first += chunk_)
    visit(first, std::min(chunk_, problem_.C - first));
}

// Adds what the rows of plane z of the source are to all rows of outputs that read them.
void Planar::addRows(const Block& block, const float* plane, int64_t z) const {
  const Conv3dProblem& p = problem_;
  const int64_t reach = (p.S - 1) * p.dilation[1], rowFloats = p.W * p.C;
  const int64_t begin = std::max<int64_t>(0, block.firstRow - p.pad[1]);
  const int64_t end = std::min(p.H, block.endRow + reach - p.pad[1]);
  for (int64_t row = begin; row < end; ++row) {
    const float* const from = plane + row * rowFloats;
    *block.fetch = {from + rowFloats, from + 2 * rowFloats};
    forEachChunk([&](int64_t first, int64_t channels) {
      kernels_.turn({{from + first}, p.W, p.C, channels, block.planes + lead_, planePitch_, 0});
      for (int64_t s = 0; s < p.S; ++s) {
        const int64_t output = row + p.pad[1] - s * p.dilation[1];
        if (output >= block.firstRow && output < block.endRow)
          addLine(block, z, s, output - block.firstRow, block.planes, first, channels);
      }
    });
  }
}

// The same by Winograd.
void Planar::addTiles(const Block& block, const float* plane, int64_t z) const {
  const Conv3dProblem& p = problem_;
  const int64_t pointFloats = chunk_ * planePitch_, rowFloats = p.W * p.C;
  for (int64_t tile = 0; tile * kTileRows < block.rows(); ++tile) {
    const int64_t top = block.firstRow - p.pad[1] + tile * kTileRows;
    // The rows that the next tile reads besides, in the next plane if this is the last.
    const bool last = (tile + 1) * kTileRows >= block.rows();
    const float* const behind =
        plane + (last ? p.H + block.firstRow - p.pad[1] : top + kPlanarTile) * rowFloats;
    *block.fetch = {behind, behind + (last ? kPlanarTile : kTileRows) * rowFloats};
    forEachChunk([&](int64_t first, int64_t channels) {
      PlanarRow rows{{}, p.W, p.C, channels, block.planes + lead_, planePitch_, pointFloats};
      for (int64_t i = 0; i < kPlanarTile; ++i) {
        const int64_t row = top + i;
        rows.sources[i] = row < 0 || row >= p.H ? block.zeros : plane + row * rowFloats + first;
      }
      kernels_.turnTile(rows);
      for (int64_t i = 0; i < kPlanarTile; ++i)
        addLine(block, z, i, tile * kPlanarTile + i, block.planes + i * pointFloats, first, channels);
    });
  }
}

// Adds what a planar row of plane z, by a part of the filters, is to a line of sums of every plane of outputs
// that reads it.
void Planar::addLine(const Block& block, int64_t z, int64_t part, int64_t line, const float* planes,
                     int64_t first, int64_t channels) const {
  const Conv3dProblem& p = problem_;
  const int64_t lines = linesOf(block.rows());
  PlanarProduct product;
  product.planes = planes + lead_ - p.pad[2];
  product.pitch = planePitch_;
  product.channels = channels;
  product.taps = p.T;
  product.tapStep = p.dilation[2];
  product.weightStep = p.R * p.K;
  product.vectors = sumPitch_ / kernels_.lanes;
  product.fetch = block.fetch;
  const float* const weights = block.packed + part * partFloats_ + first * p.T * p.R * p.K;
  int64_t rows = 0;  // neighbours, until they are as many as a kernel takes
  const auto add = [&](int64_t end) {
    product.weights = weights + end - rows;
    if (rows > 0) kernels_.add[rows - 1](product);
    rows = 0;
  };
  for (int64_t r = 0; r < p.R; ++r) {
    const int64_t plane = z + p.pad[0] - r * p.dilation[0];
    if (plane < block.firstPlane || plane >= block.endPlane) {
      add(r * p.K);
      continue;
    }
    for (int64_t k = 0; k < p.K; ++k) {
      if (rows == kMaxPlanarRows) add(r * p.K + k);
      product.sums[rows++] = block.sums + ((plane % block.window * lines + line) * p.K + k) * sumPitch_;
    }
  }
  add(p.R * p.K);
}

void Planar::storeRow(const float* sums, const float* bias, float* output) const {
  const int64_t K = problem_.K, Q = problem_.Q;
  for (int64_t k = 0; k < K; ++k) {
    const float own = bias ? bias[k] : 0.0f;
    const float* const from = sums + k * sumPitch_;
    if (K == 1) {
      for (int64_t q = 0; q < Q; ++q) output[q] = from[q] + own;
    } else {
      for (int64_t q = 0; q < Q; ++q) output[q * K + k] = from[q] + own;
    }
  }
}

// Stores plane z of the outputs of a block and leaves zeros for the next that has its sums there.
void Planar::storePlane(const Block& block, int64_t z, const float* bias, float* output) const {
  const Conv3dProblem& p = problem_;
  const int64_t lines = linesOf(block.rows());
  float* const sums = block.sums + z % block.window * lines * lineFloats();
  for (int64_t line = 0; transforms_ && line < lines; line += kPlanarTile) {
    PlanarTransform transform;
    for (int64_t i = 0; i < kPlanarTile; ++i) transform.from[i] = sums + (line + i) * lineFloats();
    transform.to = sums + line / kPlanarTile * kTileRows * lineFloats();
    transform.toStep = transform.floats = lineFloats();
    kernels_.transformOutput(transform);
  }
  float* const plane = output + ((block.sample * p.Z + z) * p.P + block.firstRow) * p.Q * p.K;
  for (int64_t row = 0; row < block.rows(); ++row)
    storeRow(sums + row * lineFloats(), bias, plane + row * p.Q * p.K);
  std::fill_n(sums, lines * lineFloats(), 0.0f);
}

void Planar::run(const float* source, const float* packed, const float* bias, float* output, void*) const {
  const Conv3dProblem& p = problem_;
  const int64_t inDepth = divideUp(p.Z, blockPlanes_), inHeight = divideUp(p.P, blockRows_);
  const int64_t reach = (p.R - 1) * p.dilation[0];
  const int64_t sumFloats = (reach + 1) * linesOf(blockRows_) * lineFloats();
  const int64_t planeFloats = (transforms_ ? kPlanarTile : 1) * chunk_ * planePitch_;
  const int64_t scratch = sumFloats + planeFloats + (transforms_ ? p.W * p.C : 0);
  parallelFor(p.N * inDepth * inHeight, [&](int64_t task) {
    PlanarFetch fetch{};
    Block block;
    block.sample = task / (inDepth * inHeight);
    block.firstPlane = task / inHeight % inDepth * blockPlanes_;
    block.endPlane = std::min(p.Z, block.firstPlane + blockPlanes_);
    block.firstRow = task % inHeight * blockRows_;
    block.endRow = std::min(p.P, block.firstRow + blockRows_);
    block.packed = packed;
    block.sums = threadScratch<Line>(static_cast<size_t>(divideUp(scratch, 16)))->floats;
    block.window = reach + 1;
    block.planes = block.sums + sumFloats;
    block.zeros = block.planes + planeFloats;
    block.fetch = &fetch;
    std::fill_n(block.sums, scratch, 0.0f);
    for (int64_t last = block.firstPlane; last < block.endPlane + reach; ++last) {
      const int64_t z = last - p.pad[0];
      if (z >= 0 && z < p.D) {
        const float* const plane = source + (block.sample * p.D + z) * p.H * p.W * p.C;
        if (transforms_) {
          addTiles(block, plane, z);
        } else {
          addRows(block, plane, z);
        }
      }
      if (last - reach >= block.firstPlane) storePlane(block, last - reach, bias, output);
    }
  });
}

}  // namespace voxgrad::cpu
