#include "conv2d_winograd_model.h"

#include <cmath>

#include "conv2d_winograd.h"

namespace voxgrad::cpu {
namespace {

// Multiply-adds that take as long as one vector of a tile's source, outputs or output gradient takes to
// transform, and as a vector of filters, or of their gradient, takes to come from the third-level cache.
// Fitted to times measured with AVX-512.
struct Costs {
  double source, output, gradient;
};
constexpr Costs kTwo = {170, 130, 150}, kFour = {550, 450, 450};
constexpr double kFilterLine = 8, kGradientLine = 15, kGradientProduct = 1.2;
constexpr double kCachedFilters = 256 * 1024;  // floats

double costOf(const Conv3dProblem& p, ConvPass pass, int64_t outputs) {
  const Conv2dTiles tiles(p, pass == ConvPass::inputGradient, outputs);
  const Costs& costs = outputs == 2 ? kTwo : kFour;
  const double lanes = winogradKernels().lanes;
  const auto vectors = [lanes](int64_t channels) { return std::ceil(static_cast<double>(channels) / lanes); };
  const double count = static_cast<double>(tiles.count()),
               frequencies = static_cast<double>(tiles.frequencies());
  if (pass == ConvPass::weightGradient) {
    const double lines = frequencies * static_cast<double>(p.K) * vectors(p.C);
    return count * (kGradientProduct * lines + costs.source * vectors(p.C) + costs.gradient * vectors(p.K)) +
           kGradientLine * lines;
  }
  const int64_t produced = pass == ConvPass::forward ? p.K : p.C;
  const double lines = frequencies * static_cast<double>(tiles.sourceChannels) * vectors(produced);
  // Every block of tiles reads all filters.
  const double blocks = lines * lanes <= kCachedFilters
                            ? 0
                            : std::ceil(count / static_cast<double>(winograd2dBlockTiles(tiles)));
  return count * (lines + costs.source * vectors(tiles.sourceChannels) + costs.output * vectors(produced)) +
         kFilterLine * lines * blocks;
}

}  // namespace

Winograd2dPlan planWinograd2d(const Conv3dProblem& problem, ConvPass pass) {
  const double two = costOf(problem, pass, 2), four = costOf(problem, pass, 4);
  return two < four ? Winograd2dPlan{2, two} : Winograd2dPlan{4, four};
}

}  // namespace voxgrad::cpu
