#include "conv2d_winograd_maps.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kMostVoxels = 3;

// Those of the longest sub-maps first.
std::vector<MapRange> rangesOf(int64_t extent, int64_t dilation) {
  const int64_t maps = std::min(extent, dilation), most = divideUp(extent, dilation);
  const int64_t longest = maps - (most * maps - extent);
  std::vector<MapRange> ranges = {{0, longest, most}};
  if (longest < maps) ranges.push_back({longest, maps - longest, most - 1});
  return ranges;
}

template <typename Part>
size_t largestWorkspace(const std::vector<Part>& parts) {
  size_t bytes = 0;
  for (const Part& part : parts) bytes = std::max(bytes, part.workspace());
  return bytes;
}

}  // namespace

bool winogradMapsFits(const Conv3dProblem& p) {
  if (!winograd2dFits(p) || p.P != p.H || p.Q != p.W) return false;
  bool fewer = false;
  for (int axis = 1; axis < 3; ++axis) {
    if (p.pad[axis] != p.dilation[axis]) return false;
    const auto ranges = rangesOf(axis == 1 ? p.H : p.W, p.dilation[axis]);
    const int64_t most = ranges.front().voxels;
    if (most < 2 || most > kMostVoxels) return false;
    fewer |= ranges.back().voxels < kMostVoxels;
  }
  return fewer;
}

std::vector<Conv2dTiles> winogradMapTiles(const Conv3dProblem& p, bool inputGradient) {
  std::vector<Conv2dTiles> tiles;
  for (const MapRange& h : rangesOf(p.H, p.dilation[1])) {
    for (const MapRange& w : rangesOf(p.W, p.dilation[2])) tiles.emplace_back(p, inputGradient, h, w);
  }
  return tiles;
}

WinogradMaps::WinogradMaps(const Conv3dProblem& p, bool inputGradient) {
  for (const Conv2dTiles& tiles : winogradMapTiles(p, inputGradient))
    parts_.emplace_back(p, inputGradient, tiles, true);
}

size_t WinogradMaps::workspace() const { return largestWorkspace(parts_); }

void WinogradMaps::run(const ConvolutionSource& source, const float* packed, const float* bias, float* output,
                       void* workspace) const {
  for (const Winograd2d& part : parts_) part.run(source, packed, bias, output, workspace);
}

WinogradMapsWeightGradient::WinogradMapsWeightGradient(const Conv3dProblem& p) {
  for (const Conv2dTiles& tiles : winogradMapTiles(p, false)) parts_.emplace_back(p, tiles);
}

size_t WinogradMapsWeightGradient::workspace() const { return largestWorkspace(parts_); }

// The first part meets all taps.
void WinogradMapsWeightGradient::run(const ConvolutionSource& x, const float* dy, float* dw,
                                     void* workspace) const {
  for (const Winograd2dWeightGradient& part : parts_)
    part.run(x, dy, &part != &parts_.front(), dw, workspace);
}

}  // namespace voxgrad::cpu
