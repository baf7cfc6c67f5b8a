#include "conv2d_winograd_model.h"

#include <cmath>

#include "conv2d_winograd.h"

namespace voxgrad::cpu {
namespace {

// Multiply-adds that take as long as it takes to transform one vector of a tile's source, outputs or output
// gradient, or of a filter, and as one of transformed filters, or of sums, takes to come from the third-level
// cache. Fitted to times measured with AVX-512.
struct Costs {
  double source, output, gradient, filter;
};
constexpr Costs kTwo = {170, 130, 150, 100}, kFour = {550, 450, 450, 250};
constexpr double kFilterLine = 4, kSumLine = 15, kSum = 1.15;
constexpr double kCachedFilters = 256 * 1024;  // floats

double costOf(const Conv3dProblem& p, ConvPass pass, int64_t outputs) {
  const Conv2dTiles tiles(p, pass == ConvPass::inputGradient, outputs);
  const Costs& costs = outputs == 2 ? kTwo : kFour;
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
  const bool filtersLast = winograd2dFiltersLast(tiles, produced);
  const double line = filtersLast                                       ? costs.filter
                      : frequencies * filters * lanes <= kCachedFilters ? 0
                                                                        : kFilterLine * frequencies;
  return multiplied +
         line * filters * std::ceil(count / static_cast<double>(winograd2dBlockTiles(tiles, filtersLast)));
}

}  // namespace

Winograd2dPlan planWinograd2d(const Conv3dProblem& problem, ConvPass pass) {
  const double two = costOf(problem, pass, 2), four = costOf(problem, pass, 4);
  return two < four ? Winograd2dPlan{2, two} : Winograd2dPlan{4, four};
}

}  // namespace voxgrad::cpu
