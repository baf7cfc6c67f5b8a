#include "conv3d_algorithm.h"

#include <cstdlib>
#include <limits>
#include <string>

#include "../core/tensor.h"
#include "conv2d_winograd_maps.h"
#include "conv2d_winograd_model.h"
#include "conv3d_amx.h"
#include "conv3d_costs.h"
#include "conv3d_dense.h"
#include "conv3d_few_voxels_weight_gradient.h"
#include "conv3d_mirrored.h"
#include "conv3d_planar.h"
#include "conv3d_winograd.h"
#include "conv3d_winograd_rows.h"
#include "conv3d_winograd_slices.h"
#include "conv3d_winograd_slices_weight_gradient.h"
#include "conv3d_winograd_strided.h"
#include "conv3d_winograd_strided_weight_gradient.h"
#include "isa.h"

namespace voxgrad::cpu {
namespace {

const std::string& wish() {
  static const std::string asked = [] {
    const char* const value = std::getenv("VOXGRAD_CONV");
    const std::string text = value ? value : "";
    if (!text.empty() && text != "direct" && text != "winograd" && text != "amx")
      throw Error("ERR_DEVICE", "VOXGRAD_CONV: expected direct, winograd or amx, found '" + text + "'");
    return text;
  }();
  return asked;
}

struct Choice {
  ConvAlgorithm algorithm;
  double cost;
};

// The cheapest Winograd algorithm of tiles of two axes or three that can do the problem; direct where none
// can.
Choice cheapestOfTiles(const Conv3dProblem& p, ConvPass pass, bool packedOnce, double lanes) {
  if (winograd2dFits(p)) {
    const Choice tiles{ConvAlgorithm::winograd2d, planWinograd2d(p, pass).cost};
    if (!winogradMapsFits(p)) return tiles;
    const Choice maps{ConvAlgorithm::winogradMaps, winogradMapsCost(p, pass)};
    return maps.cost < tiles.cost ? maps : tiles;
  }
  if (winogradStridedFits(p)) return {ConvAlgorithm::winogradStrided, stridedCost(p, pass, lanes)};
  if (!winogradSlicesFits(p)) return {ConvAlgorithm::direct, 0};
  const TilePlan plan = planWinogradSlices(p, pass, packedOnce);
  const Choice slices{ConvAlgorithm::winogradSlices, plan.cost};
  if (!winogradFits(p)) return slices;
  const Choice volume{ConvAlgorithm::winograd3d, winogradCost(p, pass, packedOnce, lanes)};
  return slices.cost < volume.cost ? slices : volume;
}

// The same of all Winograd algorithms.
Choice cheapestWinograd(const Conv3dProblem& p, ConvPass pass, bool packedOnce, double lanes) {
  const Choice tiles = cheapestOfTiles(p, pass, packedOnce, lanes);
  if (pass != ConvPass::forward) return tiles;
  Choice best = tiles;
  const auto offer = [&best](const Choice& other) {
    if (best.algorithm == ConvAlgorithm::direct || other.cost < best.cost) best = other;
  };
  if (WinogradRows::fits(p)) offer({ConvAlgorithm::winogradRows, WinogradRows::cost(p)});
  if (Planar::fits(p) && Planar::canTransform(p))
    offer({ConvAlgorithm::winogradColumns, Planar::cost(p, true)});
  return best;
}

ConvAlgorithm choose(const Conv3dProblem& problem, ConvPass pass, bool packedOnce,
                     const std::string& wished) {
  if (pass == ConvPass::inputGradient && isMirrored(problem))
    return choose(mirrored(problem), ConvPass::forward, packedOnce, wished);
  const double lanes = winogradKernels().lanes;
  const bool fits = AmxConvolution::fits(problem);
  if (wished == "direct") return ConvAlgorithm::direct;
  if (wished == "amx" && fits) return ConvAlgorithm::amx;
  // Sums of so few voxels take less than Winograd's transforms of as many weights.
  const bool few =
      pass == ConvPass::weightGradient && wished.empty() && FewVoxelsWeightGradient::fits(problem);
  const Choice winograd =
      few ? Choice{ConvAlgorithm::direct, 0} : cheapestWinograd(problem, pass, packedOnce, lanes);
  if (wished == "winograd" && winograd.algorithm != ConvAlgorithm::direct) return winograd.algorithm;
  Choice direct{ConvAlgorithm::direct, directCost(problem, pass, lanes)};
  // Two threads reach less of the rate that one has, above all of a kernel of some taps that reads both
  // factors once.
  const bool gathers = !isBlockwise(problem), weights = pass == ConvPass::weightGradient;
  const double loss = !weights ? (gathers ? 1.15 : 1.22) : gathers ? 1.4 : problem.taps() > 1 ? 1.25 : 1.05;
  const double amx = fits && (pass != ConvPass::inputGradient || AmxConvolution::reachesAll(problem))
                         ? amxCost(problem, pass)
                         : std::numeric_limits<double>::infinity();
  if (amx < loss * direct.cost) direct = {ConvAlgorithm::amx, amx};
  // Where it is close the direct kernels win: they need less memory.
  const bool strides = winograd.algorithm == ConvAlgorithm::winogradStrided && pass == ConvPass::forward;
  const double margin = direct.algorithm != ConvAlgorithm::amx ? 1.1 : strides ? 1.4 : 1.25;
  const bool slower = winograd.algorithm == ConvAlgorithm::direct || margin * winograd.cost >= direct.cost;
  return slower ? direct.algorithm : winograd.algorithm;
}

const char* nameOf(ConvAlgorithm algorithm, const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  if (pass == ConvPass::inputGradient && isMirrored(problem))
    return nameOf(algorithm, mirrored(problem), ConvPass::forward, packedOnce);
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return "direct";
    case ConvAlgorithm::amx:
      return "amx";
    case ConvAlgorithm::winograd3d:
      return "winograd F(2x2x2,3x3x3)";
    case ConvAlgorithm::winogradSlices:
      return planWinogradSlices(problem, pass, packedOnce).outputs == 3 ? "winograd F(1x3x3,3x3x3)"
                                                                        : "winograd F(1x4x4,3x3x3)";
    case ConvAlgorithm::winogradStrided:
      return problem.R == 1 ? "winograd F(4x4,3x3) stride 2" : "winograd F(1x4x4,3x3x3) stride 2";
    case ConvAlgorithm::winogradRows:
      return problem.T == 3 ? "winograd F(4,3) along W" : "winograd F(4,4) along W";
    case ConvAlgorithm::winogradColumns:
      return "winograd F(4,3) along H";
    case ConvAlgorithm::winogradMaps:
      return "winograd of whole maps";
    case ConvAlgorithm::winograd2d:
      break;
  }
  const int64_t outputs = planWinograd2d(problem, pass).outputs;
  return outputs == 2 ? "winograd F(2x2,3x3)" : outputs == 3 ? "winograd F(3x3,3x3)" : "winograd F(4x4,3x3)";
}

}  // namespace

ConvAlgorithm chooseAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  return choose(problem, pass, packedOnce, wish());
}

const char* algorithmName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  return nameOf(chooseAlgorithm(problem, pass, packedOnce), problem, pass, packedOnce);
}

const char* modelledName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  return nameOf(choose(problem, pass, packedOnce, ""), problem, pass, packedOnce);
}

}  // namespace voxgrad::cpu
