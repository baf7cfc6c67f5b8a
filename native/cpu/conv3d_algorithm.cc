#include "conv3d_algorithm.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "../core/tensor.h"
#include "conv3d_winograd.h"

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

}  // namespace

ConvAlgorithm chooseAlgorithm(const Conv3dProblem& problem, ConvPass pass) {
  if (!winogradFits(problem)) return ConvAlgorithm::direct;
  if (!wish().empty()) return wish() == "winograd" ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
  return std::min(problem.C, problem.K) >= 32 ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
}

const char* nameOf(ConvAlgorithm algorithm) {
  return algorithm == ConvAlgorithm::winograd ? "winograd" : "direct";
}

}  // namespace voxgrad::cpu
