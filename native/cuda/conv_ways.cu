#include <algorithm>
#include <mutex>
#include <set>

#include "../core/conv_step.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_fold.h"
#include "conv_gemm.h"
#include "conv_halo.h"
#include "conv_head.h"
#include "conv_split.h"
#include "conv_stem.h"
#include "conv_sums.h"
#include "conv_warpgroup.h"
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
  if (kind == stem) return stemName(gather, precision);
  if (kind == head) return headName;
  if (kind == fold) return foldName(precision);
  if (kind == halo) return haloName(gather, precision);
  if (kind == cudnn) return cudnnName(precision, sums);
  const char* tiles = kind == warpgroups ? warpgroupName(tile, precision) : gemmName(tile, precision);
  return parts == 1 ? tiles : kept(std::string(tiles) + ", depth in " + std::to_string(parts) + " parts");
}

size_t GatherWay::ownBytes(const Gather& gather) const {
  const size_t own = kind == gemm || kind == warpgroups ? splitBytes(gather, parts) : bytes;
  return (own + 255) / 256 * 256;
}

int64_t GatherWay::chunks(const Gather& gather, Precision precision) const {
  if (kind == stem) return stemChunks(gather, precision);
  if (kind == fold) return foldChunks(gather, precision);
  if (kind == halo) return haloChunks(gather, precision);
  if (parts > 1) return 0;
  return kind == warpgroups ? warpgroupChunks(gather, tile) : kind == gemm ? gemmChunks(gather, tile) : 0;
}

size_t GatherWay::workspace(const Gather& gather, Precision precision, bool moments) const {
  return ownBytes(gather) + (moments ? sumsBytes(gather, chunks(gather, precision)) : 0);
}

void GatherWay::compute(const GatherCall& call, bool whole, void* workspace) const {
  if (kind == direct) return runDirect(call);
  if (kind == stem) return runStem(call);
  if (kind == head && aligned(call.output)) return runHead(call);
  if (kind == cudnn && runCudnn(call, false, workspace)) return;
  if (kind == fold && whole) return runFold(call);
  // What reads four numbers at a time sums in the same order as what reads them singly.
  if (kind == halo && whole) return runHalo(call);
  if (kind == warpgroups && whole) return runSplit(call, {runWarpgroups, tile}, parts, workspace);
  const int tiles = kind == warpgroups ? gemmTile(call.gather, call.precision) : tile;
  runSplit(call, {runGemm, tiles}, parts, workspace);
}

void GatherWay::run(GatherCall call, void* workspace) const {
  if (sums && runCudnn(call, true, workspace)) return;
  const bool whole = aligned(call.source) && aligned(call.weights);
  auto* const room = reinterpret_cast<double*>(static_cast<char*>(workspace) + ownBytes(call.gather));
  // Other tiles, for what is not aligned, have other blocks.
  const bool inStore = call.moments != nullptr && sumsInStore() && whole;
  if (inStore) call.sums = room;
  compute(call, whole, workspace);
  if (call.moments == nullptr || (inStore && parts > 1)) return;
  call.sums = room;
  inStore ? joinSums(call, chunks(call.gather, call.precision)) : sumOutput(call);
}

namespace {

// From where on products of warpgroups are the usual way: channels that fill their tiles, and boxes most of
// whose rows are voxels.
bool suitsWarpgroups(const Gather& gather, Precision precision) {
  return gather.depth >= 64 && gather.columns >= 64 && warpgroupsTake(gather, precision) &&
         5 * gather.outputVoxels() >= 3 * warpgroupRows(gather, warpgroupTile(gather));
}

GatherWay usualWay(const Gather& gather, Precision precision) {
  if (isDirect(gather)) return {GatherWay::direct};
  if (suitsWarpgroups(gather, precision)) {
    const int tile = warpgroupTile(gather);
    return {GatherWay::warpgroups, tile, usualParts(gather, precision, warpgroupBlocks(gather, tile))};
  }
  const int tile = gemmTile(gather, precision);
  if (suitsStem(gather, precision)) return {GatherWay::stem, tile};
  if (suitsHead(gather, precision)) return {GatherWay::head, tile};
  if (suitsFold(gather, precision)) return {GatherWay::fold, tile};
  if (suitsHalo(gather, precision)) return {GatherWay::halo, tile};
  return {GatherWay::gemm, tile, usualParts(gather, precision, gemmBlocks(gather, tile))};
}

}  // namespace

static std::vector<GatherWay> allWaysOf(const Gather& gather, Precision precision, const Extras& extras) {
  const GatherWay usual = usualWay(gather, precision);
  std::vector<GatherWay> ways = {usual};
  if (usual.kind == GatherWay::direct) return ways;
  const auto add = [&](GatherWay::Kind kind, int tile, int64_t blocks) {
    for (const int parts : partsOf(gather, precision, blocks))
      if (usual.kind != kind || tile != usual.tile || parts != usual.parts)
        ways.push_back({kind, tile, parts});
  };
  for (const int tile : gemmTiles(gather, precision)) add(GatherWay::gemm, tile, gemmBlocks(gather, tile));
  if (usual.kind != GatherWay::halo && suitsHalo(gather, precision))
    ways.push_back({GatherWay::halo, gemmTile(gather, precision)});
  if (warpgroupsTake(gather, precision))
    for (const int tile : warpgroupTiles(gather))
      add(GatherWay::warpgroups, tile, warpgroupBlocks(gather, tile));
  Extras own = extras;
  for (const bool sums : {false, true}) {
    own.sums = sums;
    // cuDNN adds squares in float, and not around a value near them: too coarse for moments in f32.
    if (sums && (!extras.sums || precision == Precision::f32)) continue;
    size_t bytes = 0;
    if (cudnnTakes(gather, precision, own, &bytes))
      ways.push_back({GatherWay::cudnn, gemmTile(gather, precision), 1, bytes, sums});
  }
  return ways;
}

std::vector<GatherWay> waysOf(const Gather& gather, Precision precision, const Extras& extras) {
  std::vector<GatherWay> ways = allWaysOf(gather, precision, extras);
  if (extras.normalizes)
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

GatherWay wayOf(const Step& step, const Gather& gather, const Extras& extras) {
  const bool named = step.attributes.has("way");
  if (!named) {
    const GatherWay usual = usualWay(gather, precisionOf(step));
    if (!extras.normalizes || usual.normalizes()) return usual;
  }
  const std::vector<GatherWay> ways = waysOf(gather, precisionOf(step), extras);
  if (ways.empty() && !named) refuse(step, "no algorithm normalises its source");
  return ways[wayNumber(step, ways.size())];
}

}  // namespace voxgrad::cuda
