#include <algorithm>

#include "../core/conv_step.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_gradient_ways.h"
#include "conv_halo_weight_gradient.h"
#include "conv_head.h"
#include "conv_stem.h"
#include "conv_warpgroup_gradient.h"
#include "conv_ways.h"
#include "conv_weight_gradient.h"

namespace voxgrad::cuda {

const char* GradientWay::name(const Conv3dProblem& problem, Precision precision) const {
  switch (kind) {
    case direct:
      return directName;
    case stem:
      return stemWeightGradientName(problem, precision);
    case head:
      return headWeightGradientName(problem);
    case halo:
      return haloWeightGradientName(problem, precision);
    case gemm:
      return weightGradientName(problem, precision);
    case warpgroups:
      return warpgroupGradientName(tile);
    case cudnn:
      return cudnnName(precision);
  }
  return nullptr;
}

size_t GradientWay::workspace(const Conv3dProblem& problem, Precision precision) const {
  if (kind == direct) return directWeightGradientWorkspace(problem);
  // Single numbers may be read instead, as operands are aligned.
  const size_t own = kind == stem         ? stemWeightGradientWorkspace(problem, precision)
                     : kind == head       ? headWeightGradientWorkspace(problem, precision)
                     : kind == halo       ? haloWeightGradientWorkspace(problem, precision)
                     : kind == warpgroups ? warpgroupGradientWorkspace(problem, tile)
                                          : bytes;
  return std::max(own, weightGradientWorkspace({problem}, precision));
}

void GradientWay::run(const GradientOperands& operands) const {
  const bool whole = aligned(operands.x) && aligned(operands.dy);
  if (kind == direct) return runDirectWeightGradient(operands);
  if (kind == cudnn && whole && aligned(operands.dw)) return runCudnnWeightGradient(operands);
  if (kind == stem && aligned(operands.dy)) return runStemWeightGradient(operands);
  if (kind == head && aligned(operands.x)) return runHeadWeightGradient(operands);
  if (kind == halo && whole) return runHaloWeightGradient(operands);
  if (kind == warpgroups && whole) return runWarpgroupGradient(operands, tile);
  runWeightGradients({operands});
}

size_t GradientWay::normalizingWorkspace(const Conv3dProblem& problem, Precision precision) const {
  return kind == cudnn ? bytes : haloWeightGradientWorkspace(problem, precision);
}

void GradientWay::runNormalizing(const GradientOperands& operands, const SourceNorm& norm) const {
  kind == cudnn ? runCudnnWeightGradient(operands, norm) : runHaloWeightGradient(operands, norm);
}

namespace {

// Whether the sums of a weight gradient fit the grid of columnSums.
bool isDirectWeightGradient(const Conv3dProblem& p) {
  return isDirect(gatherOf(p, false)) && p.K * p.taps() * (p.C / p.groups) < 65535 << 8;
}

GradientWay usualWay(const Conv3dProblem& problem, Precision precision) {
  if (isDirectWeightGradient(problem)) return {GradientWay::direct};
  if (suitsWarpgroupWeightGradient(problem, precision))
    return {GradientWay::warpgroups, warpgroupGradientTile(problem)};
  if (suitsStemWeightGradient(problem, precision)) return {GradientWay::stem};
  if (suitsHeadWeightGradient(problem, precision)) return {GradientWay::head};
  if (suitsHaloWeightGradient(problem, precision)) return {GradientWay::halo};
  return {GradientWay::gemm};
}

}  // namespace

std::vector<GradientWay> gradientWaysOf(const Conv3dProblem& problem, Precision precision, bool normalize) {
  const GradientWay usual = usualWay(problem, precision);
  std::vector<GradientWay> ways = {usual};
  if (usual.kind == GradientWay::direct) return ways;
  if (usual.kind != GradientWay::gemm) ways.push_back({GradientWay::gemm});
  if (usual.kind == GradientWay::warpgroups && suitsHaloWeightGradient(problem, precision))
    ways.push_back({GradientWay::halo});
  for (int tile = 0; tile < warpgroupGradientTiles && warpgroupsTakeWeightGradient(problem, precision);
       tile++)
    if (usual.kind != GradientWay::warpgroups || tile != usual.tile)
      ways.push_back({GradientWay::warpgroups, tile});
  size_t bytes = 0;
  if (cudnnTakesWeightGradient(problem, precision, normalize, &bytes))
    ways.push_back({GradientWay::cudnn, 0, bytes});
  if (normalize)
    ways.erase(
        std::remove_if(ways.begin(), ways.end(), [](const GradientWay& way) { return !way.normalizes(); }),
        ways.end());
  return ways;
}

GradientWay gradientWayOf(const Step& step, const Conv3dProblem& problem, bool normalize) {
  const bool named = step.attributes.has("way");
  if (!named) {
    const GradientWay usual = usualWay(problem, precisionOf(step));
    if (!normalize || usual.normalizes()) return usual;
  }
  const std::vector<GradientWay> ways = gradientWaysOf(problem, precisionOf(step), normalize);
  if (ways.empty() && !named) refuse(step, "no algorithm normalises its source");
  return ways[wayNumber(step, ways.size())];
}

}  // namespace voxgrad::cuda
