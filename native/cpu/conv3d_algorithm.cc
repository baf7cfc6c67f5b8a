#include "conv3d_algorithm.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "../core/tensor.h"
#include "conv2d_winograd_model.h"
#include "conv2d_winograd_tiles.h"
#include "conv3d_gather.h"
#include "conv3d_weight_gradient_taps.h"
#include "conv3d_winograd.h"
#include "isa.h"

namespace voxgrad::cpu {
namespace {

const std::string& wish() {
  static const std::string asked = [] {
    const char* const value = std::getenv("VOXGRAD_CONV");
    const std::string text = value ? value : "";
    if (!text.empty() && text != "direct" && text != "winograd")
      throw Error("ERR_DEVICE", "VOXGRAD_CONV: expected direct or winograd, found '" + text + "'");
    return text;
  }();
  return asked;
}

// Pairs of an output voxel and one of the three taps along an axis that reads inside x.
int64_t tapsInside(int64_t source, int64_t output, int64_t pad, int64_t dilation) {
  int64_t pairs = 0;
  for (int64_t tap = 0; tap < 3; ++tap) {
    const int64_t offset = pad - tap * dilation;
    const int64_t first = std::max<int64_t>(0, offset), end = std::min(output, source + offset);
    pairs += std::max<int64_t>(0, end - first);
  }
  return pairs;
}

// Multiply-adds of one vector register. The direct kernels fill it with half as many channels where they can,
// and skip rows in the padding; those for many channels skip every tap there, and read their weights from the
// third-level cache.
double directCost(const Conv3dProblem& p, ConvPass pass, double lanes) {
  const int64_t produced = pass == ConvPass::inputGradient ? p.C : p.K;
  const int64_t reduced = pass == ConvPass::inputGradient ? p.K : p.C;
  const double vectors = static_cast<double>(produced) * 2 <= lanes
                             ? std::ceil(2.0 * static_cast<double>(produced) / lanes) / 2
                             : std::ceil(static_cast<double>(produced) / lanes);
  double rowTaps = static_cast<double>(p.N);
  rowTaps *= static_cast<double>(p.R == 1 ? p.Z : tapsInside(p.D, p.Z, p.pad[0], p.dilation[0]));
  rowTaps *= static_cast<double>(tapsInside(p.H, p.P, p.pad[1], p.dilation[1]));
  const bool perTap = pass == ConvPass::weightGradient ? TapWeightGradient::pays(p)
                                                       : Gather::paysPerTap(reduced, produced, p.taps());
  const int64_t tapsInRow = perTap ? tapsInside(p.W, p.Q, p.pad[2], p.dilation[2]) : 3 * p.Q;
  const double weights = perTap && pass != ConvPass::weightGradient ? 30 * static_cast<double>(p.C * p.K) : 0;
  return rowTaps * static_cast<double>(tapsInRow * reduced) * vectors + weights;
}

// The same unit; the constants were fitted to times measured with AVX-512 and AVX2 (see the native test's
// --compare): products run a fifth below the direct kernels' rate, transforms of tiles move data through the
// second-level cache, those of filters through memory.
double winogradCost(const Conv3dProblem& p, ConvPass pass, bool packedOnce, double lanes) {
  constexpr double kProduct = 1.2, kSource = 600, kOutput = 350;
  const double filter = pass == ConvPass::weightGradient ? 190 : packedOnce ? 40 : 290;
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

}  // namespace

ConvAlgorithm modelledAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  const bool flat = winograd2dFits(problem);
  if (!flat && !winogradFits(problem)) return ConvAlgorithm::direct;
  // Where it is close the direct kernels win: they need less memory.
  constexpr double kMargin = 1.1;
  const double lanes = winogradKernels().lanes;
  const double winograd =
      flat ? planWinograd2d(problem, pass).cost : winogradCost(problem, pass, packedOnce, lanes);
  const bool faster = kMargin * winograd < directCost(problem, pass, lanes);
  return faster ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
}

ConvAlgorithm chooseAlgorithm(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  if (wish().empty()) return modelledAlgorithm(problem, pass, packedOnce);
  const bool fits = winograd2dFits(problem) || winogradFits(problem);
  return wish() == "winograd" && fits ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
}

const char* algorithmName(const Conv3dProblem& problem, ConvPass pass, bool packedOnce) {
  if (chooseAlgorithm(problem, pass, packedOnce) == ConvAlgorithm::direct) return "direct";
  if (!winograd2dFits(problem)) return "winograd F(2x2x2,3x3x3)";
  return planWinograd2d(problem, pass).outputs == 2 ? "winograd F(2x2,3x3)" : "winograd F(4x4,3x3)";
}

}  // namespace voxgrad::cpu
