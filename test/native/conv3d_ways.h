// The ways to compute a pass of a convolution, each by name.
#pragma once

#include <memory>

#include "../../native/cpu/conv2d_winograd_maps.h"
#include "../../native/cpu/conv3d.h"
#include "../../native/cpu/conv3d_algorithm.h"
#include "../../native/cpu/conv3d_winograd.h"
#include "../../native/cpu/conv3d_winograd_slices.h"
#include "../../native/cpu/conv3d_winograd_slices_weight_gradient.h"
#include "../../native/cpu/conv3d_winograd_strided.h"
#include "../../native/cpu/conv3d_winograd_strided_weight_gradient.h"
#include "../../native/cpu/conv3d_winograd_weight_gradient.h"

namespace voxgrad::test {

using Pass = cpu::ConvPass;
using Convolution = cpu::Convolution;
using WeightGradient = cpu::ConvolutionWeightGradient;

// How to compute a pass: as chosen, or by Winograd with tiles of 2x2x2, 1x3x3, 1x4x4, 2x2, 3x3 or 4x4
// outputs, of whole maps, or with stride 2, whatever the choice is.
enum class Way { chosen, volume, slicesOfThree, slices, strided, two, three, four, maps };
constexpr const char* kWayNames[] = {"",
                                     " by F(2x2x2,3x3x3)",
                                     " by F(1x3x3,3x3x3)",
                                     " by F(1x4x4,3x3x3)",
                                     " by F(4x4,3x3) stride 2",
                                     " by F(2x2,3x3)",
                                     " by F(3x3,3x3)",
                                     " by F(4x4,3x3)",
                                     " of whole maps"};

inline bool inSlices(Way way) { return way == Way::slicesOfThree || way == Way::slices; }

inline int64_t tileOutputs(Way way) {
  return way == Way::two ? 2 : way == Way::three || way == Way::slicesOfThree ? 3 : 4;
}

inline bool canTake(Way way, const Conv3dProblem& p) {
  if (way == Way::chosen) return true;
  if (way == Way::strided) return cpu::winogradStridedFits(p);
  if (inSlices(way)) return cpu::winogradSlicesFits(p);
  if (way == Way::maps) return cpu::winogradMapsFits(p);
  return way == Way::volume ? cpu::winogradFits(p) : cpu::winograd2dFits(p);
}

inline std::unique_ptr<Convolution> convolutionBy(Way way, const Conv3dProblem& p, bool inputGradient) {
  if (way == Way::chosen) return cpu::makeConvolution(p, inputGradient);
  if (way == Way::volume) return std::make_unique<cpu::Winograd>(p, inputGradient);
  if (inSlices(way)) return std::make_unique<cpu::WinogradSlices>(p, inputGradient, tileOutputs(way), false);
  if (way == Way::strided) return std::make_unique<cpu::WinogradStrided>(p, inputGradient);
  if (way == Way::maps) return std::make_unique<cpu::WinogradMaps>(p, inputGradient);
  return std::make_unique<cpu::Winograd2d>(p, inputGradient, tileOutputs(way));
}

inline std::unique_ptr<WeightGradient> weightGradientBy(Way way, const Conv3dProblem& p) {
  if (way == Way::chosen) return cpu::makeWeightGradient(p);
  if (way == Way::volume) return std::make_unique<cpu::WinogradWeightGradient>(p);
  if (inSlices(way)) return std::make_unique<cpu::WinogradSlicesWeightGradient>(p, tileOutputs(way));
  if (way == Way::strided) return std::make_unique<cpu::WinogradStridedWeightGradient>(p);
  if (way == Way::maps) return std::make_unique<cpu::WinogradMapsWeightGradient>(p);
  return std::make_unique<cpu::Winograd2dWeightGradient>(p, tileOutputs(way));
}

inline size_t workspaceOf(Way way, const Conv3dProblem& p, Pass pass) {
  if (pass == Pass::weightGradient) return weightGradientBy(way, p)->workspace();
  return packAndRunWorkspace(*convolutionBy(way, p, pass == Pass::inputGradient));
}

inline void runBy(Way way, const Conv3dProblem& p, Pass pass, const float* a, const float* b,
                  const float* bias, float* out, void* workspace) {
  if (pass == Pass::weightGradient)
    weightGradientBy(way, p)->run(a, b, out, workspace);
  else
    packAndRun(*convolutionBy(way, p, pass == Pass::inputGradient), a, b, bias, out, workspace);
}

}  // namespace voxgrad::test
