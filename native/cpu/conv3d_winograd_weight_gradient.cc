#include "conv3d_winograd_weight_gradient.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kBlockFloats = 128 * 1024, kMostBlockTiles = 96, kLeastBlockTiles = 24;
constexpr int64_t kMostSlabs = 16, kMostSlabFloats = 1 << 20, kLeastSlabTiles = 128;

}  // namespace

WinogradWeightGradient::WinogradWeightGradient(const Conv3dProblem& p)
    : problem_(p),
      kernels_(winogradKernels()),
      tiles_{{p.D, p.H, p.W}, {p.Z, p.P, p.Q}, {p.pad[0], p.pad[1], p.pad[2]}, p.C} {
  sourceStride_ = divideUp(p.C, lanes()) * lanes();
  gradientStride_ = divideUp(p.K, lanes()) * lanes();
  allTiles_ = tiles_.count(p.N);
  const int64_t room = kBlockFloats / (kPlaneFrequencies * (sourceStride_ + gradientStride_));
  const int64_t fitting = kMostSlabFloats / (kPlanes * kPlaneFrequencies * p.K * sourceStride_);
  const int64_t slabs = std::min({kMostSlabs, fitting, allTiles_ / kLeastSlabTiles});
  slabs_ = std::max<int64_t>(1, slabs);
  const int64_t slabTiles = divideUp(allTiles_, slabs_);
  const int64_t blocks = divideUp(slabTiles, std::clamp(room, kLeastBlockTiles, kMostBlockTiles));
  blockTiles_ = divideUp(slabTiles, blocks);
  workers_ = std::min<int64_t>(ThreadPool::shared().size(), slabs_ * kPlanes);
}

struct WinogradWeightGradient::Room {
  float *zeroRow, *sums, *scratch;
  size_t bytes;
};

WinogradWeightGradient::Room WinogradWeightGradient::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.zeroRow = cursor.floats(std::max(tiles_.sourceRow(), problem_.Q * problem_.K));
  room.sums = cursor.floats(slabs_ * slabFloats());
  room.scratch = cursor.floats(workers_ * scratchFloats());
  room.bytes = cursor.used();
  return room;
}

size_t WinogradWeightGradient::workspace() const { return divide(nullptr).bytes; }

void WinogradWeightGradient::run(const float* x, const float* dy, float* dw, void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.zeroRow, std::max(tiles_.sourceRow(), problem_.Q * problem_.K), 0.0f);
  forTasks(workers_, slabs_ * kPlanes, [&](int64_t worker, int64_t task) {
    sumSlab(task / kPlanes, task % kPlanes, x, dy, room, room.scratch + worker * scratchFloats());
  });
  parallelFor(problem_.K, [&](int64_t k) {
    WinogradFilterGradient part;
    part.sums = room.sums + k * sourceStride_;
    part.slabs = slabs_;
    part.slabStride = slabFloats();
    part.frequencyStride = frequencyFloats();
    part.channels = part.tapStride = problem_.C;
    part.taps = dw + k * problem_.taps() * problem_.C;
    kernels_.filterGradient(part);
  });
}

void WinogradWeightGradient::transformGradient(int64_t plane, int64_t firstTile, int64_t tiles,
                                               const float* dy, const float* zeroRow,
                                               float* transformed) const {
  // Output slices of a tile that make a plane, first + sign * second; -1 is zero.
  constexpr struct {
    int first, second;
    float sign;
  } kSlices[kPlanes] = {{0, -1, 1.0f}, {0, 1, 1.0f}, {0, 1, -1.0f}, {-1, 1, -1.0f}};
  const Conv3dProblem& p = problem_;
  tiles_.forEachRow(firstTile, tiles, [&](int64_t done, int64_t n, const int64_t(&at)[3], int64_t count) {
    const auto rowOf = [&](int slice, int height) {
      const int64_t z = 2 * at[0] + slice, h = 2 * at[1] + height;
      const bool inside = slice >= 0 && z < p.Z && h < p.P;
      return inside ? dy + ((n * p.Z + z) * p.P + h) * p.Q * p.K : zeroRow;
    };
    WinogradGradient part;
    for (int height = 0; height < 2; ++height) {
      part.first[height] = rowOf(kSlices[plane].first, height);
      part.second[height] = rowOf(kSlices[plane].second, height);
    }
    part.sign = kSlices[plane].sign;
    part.channels = p.K;
    part.width = p.Q;
    part.begin = 2 * at[2];
    part.tiles = count;
    part.transformed = transformed + done * gradientStride_;
    part.frequencyStride = gradientFrequency();
    part.tileStride = gradientStride_;
    kernels_.gradient(part);
  });
}

void WinogradWeightGradient::sumSlab(int64_t slab, int64_t plane, const float* x, const float* dy,
                                     const Room& room, float* scratch) const {
  float* const gradients = scratch + kPlaneFrequencies * sourceFrequency();
  WinogradSum sum;
  sum.frequencies = kPlaneFrequencies;
  sum.sources = scratch;
  sum.gradients = gradients;
  sum.sourceFrequencyStride = sourceFrequency();
  sum.sourceStride = sourceStride_;
  sum.sourcePanelStride = sum.gradientPanelStride = kWinogradVectors * lanes();
  sum.gradientFrequencyStride = gradientFrequency();
  sum.gradientStride = gradientStride_;
  sum.outputs = problem_.K;
  sum.vectors = sourceStride_ / lanes();
  sum.sums = room.sums + slab * slabFloats() + plane * kPlaneFrequencies * frequencyFloats();
  sum.sumFrequencyStride = frequencyFloats();
  sum.sumStride = sourceStride_;
  const int64_t begin = allTiles_ * slab / slabs_, end = allTiles_ * (slab + 1) / slabs_;
  for (int64_t first = begin; first < end; first += blockTiles_) {
    sum.add = first > begin;
    sum.tiles = std::min(blockTiles_, end - first);
    tiles_.transformSource(kernels_, plane, first, sum.tiles, x, room.zeroRow, scratch, sourceFrequency(),
                           sourceStride_);
    transformGradient(plane, first, sum.tiles, dy, room.zeroRow, gradients);
    kernels_.sum(sum);
  }
}

}  // namespace voxgrad::cpu
