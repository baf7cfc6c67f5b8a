#include "conv3d_costs.h"

#include <algorithm>
#include <cmath>

#include "conv3d_dense.h"
#include "conv3d_gather.h"
#include "conv3d_geometry.h"
#include "conv3d_planar.h"
#include "conv3d_thin_taps.h"
#include "conv3d_weight_gradient_taps.h"
#include "conv3d_winograd.h"
#include "conv3d_winograd_strided.h"
#include "conv3d_winograd_strided_weight_gradient.h"

namespace voxgrad::cpu {

// The direct kernels fill a vector with half as many channels where they can, and skip rows in the padding;
// those for many channels skip every tap there, and read their weights from the third-level cache.
double directCost(const Conv3dProblem& p, ConvPass pass, double lanes) {
  const int64_t produced = pass == ConvPass::inputGradient ? p.C : p.K;
  const int64_t reduced = pass == ConvPass::inputGradient ? p.K : p.C;
  const double vectors = static_cast<double>(produced) * 2 <= lanes
                             ? std::ceil(2.0 * static_cast<double>(produced) / lanes) / 2
                             : std::ceil(static_cast<double>(produced) / lanes);
  double rowTaps = static_cast<double>(p.N);
  rowTaps *= static_cast<double>(axisPairs(p, 0).pairs);
  rowTaps *= static_cast<double>(axisPairs(p, 1).pairs);
  if (pass != ConvPass::weightGradient && isThinWithTaps(p, pass == ConvPass::inputGradient)) {
    if (pass == ConvPass::forward && Planar::fits(p)) return Planar::cost(p, false);
    // Sums over lanes, and voxels at the ends of rows, cost half as much again.
    return 1.5 * rowTaps *
           static_cast<double>(p.T * p.Q * produced * divideUp(reduced, thinTapsKernels().lanes));
  }
  const bool perTap =
      !isBlockwise(p) && (pass == ConvPass::weightGradient ? TapWeightGradient::pays(p)
                                                           : Gather::paysPerTap(reduced, produced, p.taps()));
  const int64_t tapsInRow = perTap ? axisPairs(p, 2).pairs : p.T * p.Q;
  const double pairs = rowTaps * static_cast<double>(tapsInRow);
  // Those of taps that reach nothing are not read.
  const double reached = pairs / static_cast<double>(p.N * p.Z * p.P * p.Q * p.taps());
  const double products = pairs * static_cast<double>(reduced) * vectors;
  // In a small volume sums of each of 27 taps are loaded and stored for few products.
  if (pass == ConvPass::weightGradient) return (perTap && lanes < 16 && winogradFits(p) ? 1.7 : 1) * products;
  return products + (perTap ? 30 * reached * static_cast<double>(p.C * p.K) : 0);
}

// The constants were fitted to times measured with AVX-512 and AVX2 (see the native test's
// --compare): products run a fifth below the direct kernels' rate, transforms of tiles move data through the
// second-level cache, those of filters through memory.
double winogradCost(const Conv3dProblem& p, ConvPass pass, bool packedOnce, double lanes) {
  constexpr double kProduct = 1.2, kSource = 600, kOutput = 350;
  // Sums of a weight gradient that the caches do not hold pass through memory.
  constexpr int64_t kCachedSums = 2 * 1024 * 1024;
  const double sums = lanes < 16 && 64 * p.C * p.K > kCachedSums ? 570 : 190;
  const double filter = pass == ConvPass::weightGradient ? sums : packedOnce ? 40 : 220;
  const int64_t produced = pass == ConvPass::inputGradient ? p.C : p.K;
  const int64_t reduced = pass == ConvPass::inputGradient ? p.K : p.C;
  const bool gradient = pass == ConvPass::inputGradient;
  const WinogradTiles tiles{{}, {gradient ? p.D : p.Z, gradient ? p.H : p.P, gradient ? p.W : p.Q}, {}, 0};
  const double vectors = std::ceil(static_cast<double>(produced) / lanes);
  const double sources = std::ceil(static_cast<double>(reduced) / lanes);
  const double tile =
      kProduct * 64 * static_cast<double>(reduced) * vectors + kSource * sources + kOutput * vectors;
  return static_cast<double>(tiles.count(p.N)) * tile + filter * static_cast<double>(p.C * p.K);
}

// The same for the weight gradient with stride 2. Sums are transformed back once. Where they are too many for
// the second-level cache, tiles pass from one thread to another: through that of another, or through memory.
static double stridedWeightGradientCost(const Conv3dProblem& p, double lanes) {
  constexpr double kProduct = 0.9, kSumLine = 25, kSharedTiles = 3 * 1024 * 1024;
  const WinogradStridedTiles tiles(p, false);
  const WinogradStridedDepth depth(p, false);
  const double vectors = std::ceil(static_cast<double>(p.K) / lanes);
  const double sources = std::ceil(static_cast<double>(p.C) / lanes);
  const double rows = static_cast<double>(tiles.count() * depth.steps());
  const double spans = static_cast<double>(tiles.count() * depth.span(depth.steps()));
  const double floats = (WinogradStridedTiles::kProducts * sources * spans +
                         WinogradStridedTiles::kFrequencies * vectors * rows) *
                        lanes;
  const bool cached = WinogradStridedWeightGradient::cachesSums(p), memory = !cached && floats > kSharedTiles;
  const double source = cached ? 600 : memory ? 1800 : 900, gradient = memory ? 700 : 400;
  const double sums = WinogradStridedTiles::kProducts * static_cast<double>(p.R * p.K) * sources;
  return rows * (kProduct * sums + gradient * vectors) + spans * source * sources + kSumLine * sums;
}

// The same for the forward pass and the input gradient with stride 2. Filters that tasks transform are
// written to the second-level cache for every block of tiles; where they are transformed beforehand and too
// many for it, every block reads them from the third.
double stridedCost(const Conv3dProblem& p, ConvPass pass, double lanes) {
  if (pass == ConvPass::weightGradient) return stridedWeightGradientCost(p, lanes);
  constexpr double kProducts = WinogradStridedTiles::kProducts;
  constexpr double kProduct = 1.1, kFilter = 950, kFilterLine = 8, kCachedFilters = 256 * 1024;
  const bool gradient = pass == ConvPass::inputGradient, filtersLast = WinogradStrided::filtersLast(p);
  const double source = gradient ? 300 : 400, output = gradient ? 800 : 250,
               blockRows = filtersLast ? 64 : 48;
  const double vectors = std::ceil(static_cast<double>(gradient ? p.C : p.K) / lanes);
  const double reduced = static_cast<double>(gradient ? p.K : p.C), sources = std::ceil(reduced / lanes);
  const WinogradStridedTiles tiles(p, gradient);
  const WinogradStridedDepth depth(p, gradient);
  const double count = static_cast<double>(tiles.count()), phases = static_cast<double>(depth.phases);
  const double rows = count * static_cast<double>(depth.steps());
  const double spans = count * static_cast<double>(depth.span(depth.steps()));
  int64_t depthTaps = 0;  // of all phases
  for (int64_t phase = 0; phase < depth.phases; ++phase) depthTaps += depth.axis[phase].taps;
  const double filters = static_cast<double>(depthTaps) * reduced * vectors;
  const bool streams = kProducts * filters * lanes > kCachedFilters;
  const double line = filtersLast ? kFilter : streams ? kFilterLine * kProducts : 0;
  return rows * (kProduct * kProducts * filters + output * vectors * phases) + spans * source * sources +
         line * filters * std::ceil(rows / blockRows);
}

// Pairs along a row of an output voxel and a tap that a tile of sixteen voxels has to itself: rows that are
// shorter share tiles, and all their taps are taken.
static int64_t tiledTapsInRow(const Conv3dProblem& p) {
  constexpr int64_t kTile = 16;
  if (p.Q < kTile) return p.T * p.Q;
  int64_t pairs = 0;
  for (int64_t tap = 0; tap < p.T; ++tap) {
    const auto [first, last] = reachedOutputs(p.Q, p.W, p.stride[2], tap * p.dilation[2] - p.pad[2]);
    if (first < last) pairs += (divideUp(last, kTile) - first / kTile) * kTile;
  }
  return pairs;
}

// The same on the matrix unit. Parts of the factors are made for every tap; the weights, half as much again
// as floats, are read anew for every block of voxels where they are too many for the second-level cache,
// while products go on. Phases of a strided input gradient store voxels that are apart.
double amxCost(const Conv3dProblem& p, ConvPass pass) {
  constexpr double kProduct = 0.8, kRow = 0.9, kTransposedRow = 2, kTap = 30, kColumn = 10, kVoxel = 50,
                   kWeight = 12, kSum = 1.5, kApart = 1.2;
  constexpr int64_t kCachedWeights = 192 * 1024, kBlockVoxels = 256;
  const bool gradient = pass == ConvPass::inputGradient;
  const double c = static_cast<double>(p.C), k = static_cast<double>(p.K);
  double pairs = static_cast<double>(p.N);
  pairs *= static_cast<double>(axisPairs(p, 0).pairs);
  pairs *= static_cast<double>(axisPairs(p, 1).pairs);
  const double product = kProduct * 64 * std::ceil(c / 32) * std::ceil(k / 32);
  const double weights = static_cast<double>(p.taps()) * c * k;
  if (pass == ConvPass::weightGradient) {
    pairs *= static_cast<double>(axisPairs(p, 2).pairs);
    return pairs * (product + kRow * c + kTransposedRow * k + kTap) + kSum * weights;
  }
  pairs *= static_cast<double>(tiledTapsInRow(p));
  const int64_t voxels = p.N * (gradient ? p.D * p.H * p.W : p.Z * p.P * p.Q);
  const double reached = pairs / static_cast<double>(p.N * p.Z * p.P * p.Q * p.taps());
  const int64_t phases = gradient ? p.stride[0] * p.stride[1] * p.stride[2] : 1;
  const int64_t blocks = divideUp(divideUp(voxels, phases), kBlockVoxels);
  const double streamed = weights > kCachedWeights ? weights * reached * static_cast<double>(blocks) : 0;
  const double columns = std::ceil((gradient ? c : k) / 32);
  const bool apart = phases > 1;
  const double voxel = kVoxel + (gradient ? c : k) / 4,
               tap = kRow * (gradient ? k : c) + kTap + kColumn * columns;
  return (apart ? kApart : 1) *
         (std::max(pairs * product, kWeight * streamed) + pairs * tap + static_cast<double>(voxels) * voxel);
}

}  // namespace voxgrad::cpu
