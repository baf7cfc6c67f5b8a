#include "conv2d_winograd.h"
#include "conv2d_winograd_maps.h"
#include "conv2d_winograd_model.h"
#include "conv2d_winograd_weight_gradient.h"
#include "conv3d.h"
#include "conv3d_algorithm.h"
#include "conv3d_amx.h"
#include "conv3d_amx_weight_gradient.h"
#include "conv3d_dense.h"
#include "conv3d_dense_weight_gradient.h"
#include "conv3d_depthwise.h"
#include "conv3d_few_voxels.h"
#include "conv3d_few_voxels_weight_gradient.h"
#include "conv3d_gather.h"
#include "conv3d_mirrored.h"
#include "conv3d_planar.h"
#include "conv3d_pointwise.h"
#include "conv3d_stem.h"
#include "conv3d_stem_forward.h"
#include "conv3d_thin.h"
#include "conv3d_thin_taps.h"
#include "conv3d_weight_gradient.h"
#include "conv3d_weight_gradient_taps.h"
#include "conv3d_winograd.h"
#include "conv3d_winograd_rows.h"
#include "conv3d_winograd_slices.h"
#include "conv3d_winograd_slices_weight_gradient.h"
#include "conv3d_winograd_strided.h"
#include "conv3d_winograd_strided_weight_gradient.h"
#include "conv3d_winograd_weight_gradient.h"

namespace voxgrad::cpu {
namespace {

size_t packedBytes(const Convolution& convolution) {
  return roundToLine(convolution.packedFloats() * sizeof(float));
}

}  // namespace

std::unique_ptr<Convolution> makeConvolution(const Conv3dProblem& problem, bool inputGradient,
                                             bool packedOnce) {
  if (inputGradient && isMirrored(problem)) {
    return std::make_unique<MirroredInputGradient>(problem,
                                                   makeConvolution(mirrored(problem), false, packedOnce));
  }
  const ConvPass pass = inputGradient ? ConvPass::inputGradient : ConvPass::forward;
  switch (chooseAlgorithm(problem, pass, packedOnce)) {
    case ConvAlgorithm::winograd3d:
      return std::make_unique<Winograd>(problem, inputGradient);
    case ConvAlgorithm::winogradSlices:
      return std::make_unique<WinogradSlices>(
          problem, inputGradient, planWinogradSlices(problem, pass, packedOnce).outputs, packedOnce);
    case ConvAlgorithm::winogradStrided:
      return std::make_unique<WinogradStrided>(problem, inputGradient);
    case ConvAlgorithm::winograd2d:
      return std::make_unique<Winograd2d>(problem, inputGradient, planWinograd2d(problem, pass).outputs);
    case ConvAlgorithm::winogradMaps:
      return std::make_unique<WinogradMaps>(problem, inputGradient);
    case ConvAlgorithm::winogradRows:
      return std::make_unique<WinogradRows>(problem);
    case ConvAlgorithm::winogradColumns:
      return std::make_unique<Planar>(problem, true);
    case ConvAlgorithm::amx:
      return std::make_unique<AmxConvolution>(problem, inputGradient);
    case ConvAlgorithm::direct:
      break;
  }
  if (isDepthwise(problem)) return std::make_unique<Depthwise>(problem, inputGradient);
  if (isThin(problem, inputGradient)) {
    if (inputGradient) return std::make_unique<ThinInputGradient>(problem);
    return std::make_unique<Thin>(problem);
  }
  if (isThinWithTaps(problem, inputGradient)) {
    if (!inputGradient && Planar::fits(problem)) return std::make_unique<Planar>(problem, false);
    return std::make_unique<ThinWithTaps>(problem, inputGradient);
  }
  if (!packedOnce && FewVoxels::fits(problem)) return std::make_unique<FewVoxels>(problem, inputGradient);
  if (Pointwise::fits(problem)) return std::make_unique<Pointwise>(problem, inputGradient);
  if (isBlockwise(problem)) return std::make_unique<Dense>(problem, inputGradient);
  if (isStem(problem) && !inputGradient) return std::make_unique<Stem>(problem);
  return std::make_unique<Gather>(problem, inputGradient);
}

int64_t weightFloats(const Convolution& convolution, const Conv3dProblem& problem) {
  const auto packed = static_cast<int64_t>(convolution.packedFloats());
  return packed > 0 ? packed : problem.weightFloats();
}

size_t packAndRunWorkspace(const Convolution& convolution) {
  return packedBytes(convolution) + convolution.workspace();
}

void packAndRun(const Convolution& convolution, const float* source, const float* w, const float* bias,
                float* output, void* workspace) {
  const size_t bytes = packedBytes(convolution);
  float* const packed = static_cast<float*>(workspace);
  if (bytes > 0) convolution.pack(w, packed);
  convolution.run(source, bytes > 0 ? packed : w, bias, output, static_cast<char*>(workspace) + bytes);
}

std::unique_ptr<ConvolutionWeightGradient> makeWeightGradient(const Conv3dProblem& problem) {
  constexpr ConvPass pass = ConvPass::weightGradient;
  switch (chooseAlgorithm(problem, pass)) {
    case ConvAlgorithm::winograd3d:
      return std::make_unique<WinogradWeightGradient>(problem);
    case ConvAlgorithm::winogradSlices:
      return std::make_unique<WinogradSlicesWeightGradient>(problem,
                                                            planWinogradSlices(problem, pass, false).outputs);
    case ConvAlgorithm::winograd2d:
      return std::make_unique<Winograd2dWeightGradient>(problem, planWinograd2d(problem, pass).outputs);
    case ConvAlgorithm::winogradMaps:
      return std::make_unique<WinogradMapsWeightGradient>(problem);
    case ConvAlgorithm::winogradStrided:
      return std::make_unique<WinogradStridedWeightGradient>(problem);
    case ConvAlgorithm::amx:
      return std::make_unique<AmxWeightGradient>(problem);
    case ConvAlgorithm::winogradRows:
    case ConvAlgorithm::winogradColumns:
    case ConvAlgorithm::direct:
      break;
  }
  if (isDepthwise(problem)) return std::make_unique<DepthwiseWeightGradient>(problem);
  if (FewVoxelsWeightGradient::fits(problem)) return std::make_unique<FewVoxelsWeightGradient>(problem);
  if (isBlockwise(problem)) return std::make_unique<DenseWeightGradient>(problem);
  if (isStem(problem)) return std::make_unique<StemWeightGradient>(problem);
  if (TapWeightGradient::pays(problem)) return std::make_unique<TapWeightGradient>(problem);
  return std::make_unique<WeightGradient>(problem);
}

}  // namespace voxgrad::cpu
