#include <algorithm>
#include <mutex>
#include <set>

#include "../core/conv_step.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo.h"
#include "conv_split.h"
#include "conv_sums.h"
#include "conv_ways.h"

namespace voxgrad::cuda {
namespace {

const char* kept(const std::string& text) {
  static std::mutex mutex;
  static auto* texts = new std::set<std::string>;
  std::lock_guard<std::mutex> lock(mutex);
  return texts->insert(text).first->c_str();
}

}  // namespace

const char* GatherWay::name(const Gather& gather, Precision precision) const {
  if (kind == direct) return directName;
  if (kind == halo) return haloName(gather, precision);
  if (kind == cudnn) return cudnnName(precision);
  const char* tiles = gemmName(tile, precision);
  return parts == 1 ? tiles : kept(std::string(tiles) + ", depth in " + std::to_string(parts) + " parts");
}

size_t GatherWay::ownBytes(const Gather& gather) const {
  const size_t own = kind == gemm ? splitBytes(gather, parts) : bytes;
  return (own + 255) / 256 * 256;
}

int64_t GatherWay::chunks(const Gather& gather, Precision precision) const {
  return kind == halo                 ? haloChunks(gather, precision)
         : kind == gemm && parts == 1 ? gemmChunks(gather, tile)
                                      : 0;
}

size_t GatherWay::workspace(const Gather& gather, Precision precision, bool sums) const {
  return ownBytes(gather) + (sums ? sumsBytes(gather, chunks(gather, precision)) : 0);
}

void GatherWay::run(GatherCall call, void* workspace) const {
  const bool full = aligned(call.source) && aligned(call.weights);
  auto* const sums = reinterpret_cast<double*>(static_cast<char*>(workspace) + ownBytes(call.gather));
  // Other tiles, for what is not aligned, have other blocks.
  const bool inStore = call.moments != nullptr && sumsInStore() && full;
  if (inStore) call.sums = sums;
  if (kind == direct)
    runDirect(call);
  else if (kind == cudnn)
    runCudnn(call, workspace);
  else if (kind == halo && full)
    runHalo(call);
  else  // What reads four numbers at a time sums in the same order as what reads them singly.
    runSplit(call, tile, parts, workspace);
  if (call.moments == nullptr || (inStore && parts > 1)) return;
  call.sums = sums;
  inStore ? joinSums(call, chunks(call.gather, call.precision)) : sumOutput(call);
}

static GatherWay usualWay(const Gather& gather, Precision precision) {
  if (isDirect(gather)) return {GatherWay::direct};
  const int tile = gemmTile(gather, precision);
  if (suitsHalo(gather, precision)) return {GatherWay::halo, tile};
  return {GatherWay::gemm, tile, usualParts(gather, precision)};
}

static std::vector<GatherWay> allWaysOf(const Gather& gather, Precision precision) {
  const GatherWay usual = usualWay(gather, precision);
  std::vector<GatherWay> ways = {usual};
  if (usual.kind == GatherWay::direct) return ways;
  for (const int tile : gemmTiles(gather, precision))
    for (const int parts : partsOf(gather, tile, precision))
      if (usual.kind != GatherWay::gemm || tile != usual.tile || parts != usual.parts)
        ways.push_back({GatherWay::gemm, tile, parts});
  size_t bytes = 0;
  if (cudnnTakes(gather, precision, &bytes)) ways.push_back({GatherWay::cudnn, usual.tile, 1, bytes});
  return ways;
}

std::vector<GatherWay> waysOf(const Gather& gather, Precision precision, bool normalize) {
  std::vector<GatherWay> ways = allWaysOf(gather, precision);
  if (normalize)
    ways.erase(
        std::remove_if(ways.begin(), ways.end(), [](const GatherWay& way) { return !way.normalizes(); }),
        ways.end());
  return ways;
}

size_t wayNumber(const Step& step, size_t ways) {
  if (!step.attributes.has("way")) return 0;
  const int64_t number = step.attributes.integer("way");
  if (number < 0 || number >= static_cast<int64_t>(ways))
    refuse(step,
           "there are " + std::to_string(ways) + " ways, not one with number " + std::to_string(number));
  return static_cast<size_t>(number);
}

GatherWay wayOf(const Step& step, const Gather& gather, bool normalize) {
  if (!step.attributes.has("way")) {
    const GatherWay usual = usualWay(gather, precisionOf(step));
    if (normalize && !usual.normalizes()) refuse(step, "its algorithm does not normalise");
    return usual;
  }
  const std::vector<GatherWay> ways = waysOf(gather, precisionOf(step), normalize);
  return ways[wayNumber(step, ways.size())];
}

}  // namespace voxgrad::cuda
