#include "conv2d_winograd_model.h"

#include <cmath>

#include "conv2d_winograd_maps.h"
#include "conv3d_winograd_slices.h"
#include "conv3d_winograd_slices_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

// Multiply-adds that take as long as it takes to transform one vector of a tile's source, outputs or output
// gradient, or of a filter, and as one of transformed filters, or of sums, takes to come from the third-level
// cache. Fitted to times measured with AVX-512.
struct Costs {
  double source, output, gradient, filter;
};
constexpr Costs kCosts[] = {{170, 130, 150, 100}, {320, 260, 270, 170}, {550, 450, 450, 250}};
const Costs& costsOf(int64_t outputs) { return kCosts[outputs - 2]; }
constexpr double kFilterLine = 4, kSumLine = 15, kSum = 1.15;
constexpr double kCachedFilters = 256 * 1024;  // floats

double costOf(const Conv3dProblem& p, ConvPass pass, const Conv2dTiles& tiles, const Costs& costs,
              bool filtersLast) {
  const double lanes = winogradKernels().lanes;
  const auto vectors = [lanes](int64_t channels) { return std::ceil(static_cast<double>(channels) / lanes); };
  const double count = static_cast<double>(tiles.count());
  const double frequencies = static_cast<double>(tiles.frequencies());
  if (pass == ConvPass::weightGradient) {
    const double sums = frequencies * static_cast<double>(p.K) * vectors(p.C);
    return count * (kSum * sums + costs.source * vectors(p.C) + costs.gradient * vectors(p.K)) +
           kSumLine * sums;
  }
  const int64_t produced = pass == ConvPass::forward ? p.K : p.C;
  const double filters = static_cast<double>(tiles.sourceChannels) * vectors(produced);
  const double multiplied = count * (frequencies * filters + costs.source * vectors(tiles.sourceChannels) +
                                     costs.output * vectors(produced));
  // What is done with all filters for every block of tiles.
  const double line = filtersLast                                       ? costs.filter
                      : frequencies * filters * lanes <= kCachedFilters ? 0
                                                                        : kFilterLine * frequencies;
  return multiplied +
         line * filters * std::ceil(count / static_cast<double>(winograd2dBlockTiles(tiles, filtersLast)));
}

double costOf(const Conv3dProblem& p, ConvPass pass, int64_t outputs) {
  const Conv2dTiles tiles(p, pass == ConvPass::inputGradient, outputs);
  const int64_t produced = pass == ConvPass::inputGradient ? p.C : p.K;
  return costOf(p, pass, tiles, costsOf(outputs), winograd2dFiltersLast(tiles, produced));
}

// Transforming back the sums of a weight gradient, and adding to them, in the second-level cache or the
// third. Many sums of few tiles are cut by channels and stay in the second.
double slicesSumCost(const Conv3dProblem& p, int64_t outputs, double filter) {
  constexpr int64_t kManySums = 2048 * 1024;
  const WinogradSlicesWeightGradient own(p, outputs);
  const double lanes = winogradKernels().lanes;
  const bool byChannels = own.sharesTiles() && own.additions() == 1 && own.sumFloats() > kManySums;
  const double line = own.sharesTiles() && !byChannels ? 12 : lanes == 16 ? 2 : 10;
  return (byChannels ? 60 : 190) * filter +
         line * static_cast<double>(own.additions() * own.sumFloats()) / lanes;
}

// Products and transforms cost what they do above. Filters are more, and where they are too many for the
// second-level cache every task reads them from the third.
double slicesCost(const Conv3dProblem& p, ConvPass pass, bool packedOnce, int64_t outputs) {
  constexpr double kProduct = 1.15, kFilterLine = 8, kTaskTiles = 64, kFiltersLast = 80;
  const Costs& costs = costsOf(outputs);
  const bool gradient = pass == ConvPass::inputGradient;
  const double produced = static_cast<double>(gradient ? p.C : p.K);
  const double reduced = static_cast<double>(gradient ? p.K : p.C);
  const Conv2dTiles tiles(p, gradient, outputs);
  const double lanes = winogradKernels().lanes;
  const double vectors = std::ceil(produced / lanes), sources = std::ceil(reduced / lanes);
  const double frequencies = static_cast<double>(tiles.frequencies());
  const double count = static_cast<double>(tiles.count());
  const int64_t depthTaps = p.N * axisPairs(p, 0).pairs;
  const double common =
      kProduct * frequencies * static_cast<double>(depthTaps * tiles.inSlice()) * reduced * vectors +
      count * (costs.source * sources + costs.output * vectors);
  const double filter = frequencies / 36 * produced * reduced;  // as one of four outputs
  if (pass == ConvPass::weightGradient) return common + slicesSumCost(p, outputs, filter);
  const double filters = frequencies * 3 * reduced * vectors;
  const bool streams = filters * lanes > kCachedFilters;
  if (WinogradSlices(p, gradient, outputs, packedOnce).filtersLast()) return common + kFiltersLast * filter;
  return common + (packedOnce ? 60 : 370) * filter +
         (streams ? kFilterLine * filters * std::ceil(count / kTaskTiles) : 0);
}

}  // namespace

TilePlan planWinograd2d(const Conv3dProblem& problem, ConvPass pass) {
  TilePlan best = {4, costOf(problem, pass, 4)};
  for (const int64_t outputs : {3, 2}) {
    const double cost = costOf(problem, pass, outputs);
    if (cost < best.cost) best = {outputs, cost};
  }
  return best;
}

// Transforms cost as much a frequency as those of tiles of three outputs.
double winogradMapsCost(const Conv3dProblem& problem, ConvPass pass) {
  double cost = 0;
  for (const Conv2dTiles& tiles : winogradMapTiles(problem, pass == ConvPass::inputGradient)) {
    const double share = static_cast<double>(tiles.frequencies()) / 25;
    const Costs& three = costsOf(3);
    const Costs costs = {share * three.source, share * three.output, share * three.gradient,
                         share * three.filter};
    cost += costOf(problem, pass, tiles, costs, true);
  }
  return cost;
}

TilePlan planWinogradSlices(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  const TilePlan three = {3, slicesCost(problem, pass, packedOnce, 3)};
  const TilePlan four = {4, slicesCost(problem, pass, packedOnce, 4)};
  return three.cost < four.cost ? three : four;
}

}  // namespace voxgrad::cpu
