#include <mutex>
#include <set>

#include "../core/conv_step.h"
#include "conv_cudnn.h"
#include "conv_direct.h"
#include "conv_gemm.h"
#include "conv_halo.h"
#include "conv_head.h"
#include "conv_split.h"
#include "conv_stem.h"
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
  if (kind == halo) return haloName(gather, precision);
  if (kind == cudnn) return cudnnName(precision);
  const char* tiles = gemmName(tile, precision);
  return parts == 1 ? tiles : kept(std::string(tiles) + ", depth in " + std::to_string(parts) + " parts");
}

size_t GatherWay::workspace(const Gather& gather) const {
  return kind == gemm ? splitBytes(gather, parts) : bytes;
}

void GatherWay::run(const GatherCall& call, void* workspace) const {
  if (kind == direct) return runDirect(call);
  if (kind == stem) return runStem(call);
  if (kind == head && aligned(call.output)) return runHead(call);
  if (kind == cudnn) return runCudnn(call, workspace);
  // What reads four numbers at a time sums in the same order as what reads them singly.
  if (kind == halo && aligned(call.source) && aligned(call.weights)) return runHalo(call);
  runSplit(call, tile, parts, workspace);
}

static GatherWay usualWay(const Gather& gather, Precision precision) {
  if (isDirect(gather)) return {GatherWay::direct};
  const int tile = gemmTile(gather, precision);
  if (suitsStem(gather, precision)) return {GatherWay::stem, tile};
  if (suitsHead(gather, precision)) return {GatherWay::head, tile};
  if (suitsHalo(gather, precision)) return {GatherWay::halo, tile};
  return {GatherWay::gemm, tile, usualParts(gather, precision)};
}

std::vector<GatherWay> waysOf(const Gather& gather, Precision precision) {
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

size_t wayNumber(const Step& step, size_t ways) {
  if (!step.attributes.has("way")) return 0;
  const int64_t number = step.attributes.integer("way");
  if (number < 0 || number >= static_cast<int64_t>(ways))
    refuse(step,
           "there are " + std::to_string(ways) + " ways, not one with number " + std::to_string(number));
  return static_cast<size_t>(number);
}

GatherWay wayOf(const Step& step, const Gather& gather) {
  if (!step.attributes.has("way")) return usualWay(gather, precisionOf(step));
  const std::vector<GatherWay> ways = waysOf(gather, precisionOf(step));
  return ways[wayNumber(step, ways.size())];
}

}  // namespace voxgrad::cuda
