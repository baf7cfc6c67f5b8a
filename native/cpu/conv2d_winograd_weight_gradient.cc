#include "conv2d_winograd_weight_gradient.h"

#include "conv3d_winograd_blocks.h"
#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Floats of sums that a task keeps in a 2 MiB second-level cache.
constexpr int64_t kCachedSums = 256 * 1024;
// Slabs: transformed tiles of a block, which lie in that cache as well.
constexpr int64_t kSlabBlockFloats = 192 * 1024, kLeastBlockTiles = 16;
// Tiles that are transformed at a time where tasks share them.
constexpr int64_t kSharedTiles = 128;
// Of channels, where there are as many panels of them.
constexpr int64_t kLeastTasks = 4;
// Of frequencies, where there are as many panels of channels.
constexpr int64_t kLeastFrequencyTasks = 16;
// Where transformed sources of this many floats per frequency are read again for every task's channels, sums
// in memory cost less.
constexpr int64_t kMostSourceFloats = 20 * 1024;

}  // namespace

Winograd2dWeightGradient::Winograd2dWeightGradient(const Conv3dProblem& p, int64_t outputs)
    : Winograd2dWeightGradient(p, Conv2dTiles(p, false, outputs)) {}

Winograd2dWeightGradient::Winograd2dWeightGradient(const Conv3dProblem& p, const Conv2dTiles& tiles)
    : problem_(p), tiles_(tiles), products_(winogradKernels()) {
  sourcePanels_ = divideUp(p.C, panel());
  gradientPanels_ = divideUp(p.K, panel());
  sumStride_ = divideUp(p.C, lanes()) * lanes();
  allTiles_ = tiles_.count();
  slabs_ = 1;
  taskChannels_ = p.K;
  const int64_t workers = ThreadPool::shared().size();
  if (frequencies() * p.K * sumStride_ <= kCachedSums && winogradSlabs(allTiles_) > 1) {
    cut_ = Cut::slabs;
    slabs_ = winogradSlabs(allTiles_);
    const int64_t slabTiles = divideUp(allTiles_, slabs_);
    const int64_t room = kSlabBlockFloats / (frequencies() * (sourcePanels_ + gradientPanels_) * panel());
    blockTiles_ = divideUp(slabTiles, divideUp(slabTiles, std::max(kLeastBlockTiles, room)));
    workers_ = std::min(workers, slabs_);
  } else if (allTiles_ * p.C > kMostSourceFloats) {
    cut_ = Cut::frequencies;
    blockTiles_ = divideUp(allTiles_, divideUp(allTiles_, kSharedTiles));
    workers_ = 1;
  } else {
    cut_ = Cut::channels;
    blockTiles_ = allTiles_;
    const int64_t fitting = kCachedSums / (frequencies() * sumStride_ * panel());
    taskChannels_ = std::clamp<int64_t>(fitting, 1, divideUp(gradientPanels_, kLeastTasks)) * panel();
    workers_ = std::min(workers, divideUp(p.K, taskChannels_));
  }
}

struct Winograd2dWeightGradient::Room {
  float *zeroRow, *sums, *transformed;
  size_t bytes;
};

Winograd2dWeightGradient::Room Winograd2dWeightGradient::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.zeroRow = cursor.floats(std::max(tiles_.sourceRow(), tiles_.outputRow()));
  room.sums = cursor.floats((cut_ == Cut::channels ? workers_ : slabs_) * sumFloats());
  room.transformed = cursor.floats(cut_ == Cut::channels ? sourceFloats() + workers_ * gradientFloats()
                                                         : workers_ * transformedFloats());
  room.bytes = cursor.used();
  return room;
}

size_t Winograd2dWeightGradient::workspace() const { return divide(nullptr).bytes; }

void Winograd2dWeightGradient::run(const ConvolutionSource& x, const float* dy, bool add, float* dw,
                                   void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.zeroRow, std::max(tiles_.sourceRow(), tiles_.outputRow()), 0.0f);
  if (cut_ == Cut::channels) return sumChannels(x, dy, add, room, dw);
  if (cut_ == Cut::slabs) {
    forTasks(workers_, slabs_, [&](int64_t worker, int64_t slab) {
      sumSlab(slab, x, dy, room, room.transformed + worker * transformedFloats());
    });
  } else {
    for (int64_t first = 0; first < allTiles_; first += blockTiles_) sumBlock(first, x, dy, room);
  }
  parallelFor(problem_.K, [&](int64_t k) { transformBack(room.sums + k * sumStride_, k, add, dw); });
}

void Winograd2dWeightGradient::transformSource(int64_t firstTile, int64_t tiles, const ConvolutionSource& x,
                                               const Room& room, float* sources) const {
  tiles_.transformSource(firstTile, tiles, x, room.zeroRow,
                         {sources, sourceFrequency(), blockTiles_ * panel(), panel()});
}

void Winograd2dWeightGradient::transformGradient(int64_t firstTile, int64_t tiles, const float* dy,
                                                 int64_t channels, const Room& room, float* gradients) const {
  tiles_.transformGradient(firstTile, tiles, dy, channels, room.zeroRow,
                           {gradients, gradientFrequency(), blockTiles_ * panel(), panel()});
}

void Winograd2dWeightGradient::sumSlab(int64_t slab, const ConvolutionSource& x, const float* dy,
                                       const Room& room, float* transformed) const {
  float *const sums = room.sums + slab * sumFloats(), *const gradients = transformed + sourceFloats();
  const int64_t begin = allTiles_ * slab / slabs_, end = allTiles_ * (slab + 1) / slabs_;
  for (int64_t first = begin; first < end; first += blockTiles_) {
    const int64_t tiles = std::min(blockTiles_, end - first);
    transformSource(first, tiles, x, room, transformed);
    transformGradient(first, tiles, dy, problem_.K, room, gradients);
    sum({transformed, gradients, tiles, 0, frequencies(), problem_.K}, first > begin, sums);
  }
}

void Winograd2dWeightGradient::sumBlock(int64_t first, const ConvolutionSource& x, const float* dy,
                                        const Room& room) const {
  const int64_t tiles = std::min(blockTiles_, allTiles_ - first), run = tiles_.along[1];
  float *const sources = room.transformed, *const gradients = sources + sourceFloats();
  parallelFor(divideUp(tiles, run), [&](int64_t task) {
    const int64_t at = task * run, count = std::min(run, tiles - at);
    transformSource(first + at, count, x, room, sources + at * panel());
    transformGradient(first + at, count, dy, problem_.K, room, gradients + at * panel());
  });
  const int64_t parts = std::min(gradientPanels_, divideUp(kLeastFrequencyTasks, frequencies()));
  parallelFor(frequencies() * parts, [&](int64_t task) {
    const int64_t f = task / parts, part = task % parts;
    const int64_t begin = gradientPanels_ * part / parts * panel();
    const int64_t end = std::min(problem_.K, gradientPanels_ * (part + 1) / parts * panel());
    sum({sources, gradients + begin * blockTiles_, tiles, f, 1, end - begin}, first > 0,
        room.sums + f * sumFrequency() + begin * sumStride_);
  });
}

void Winograd2dWeightGradient::sumChannels(const ConvolutionSource& x, const float* dy, bool add,
                                           const Room& room, float* dw) const {
  const int64_t run = tiles_.along[1];
  float* const sources = room.transformed;
  parallelFor(divideUp(allTiles_, run), [&](int64_t task) {
    const int64_t at = task * run;
    transformSource(at, std::min(run, allTiles_ - at), x, room, sources + at * panel());
  });
  forTasks(workers_, divideUp(problem_.K, taskChannels_), [&](int64_t worker, int64_t task) {
    float* const gradients = sources + sourceFloats() + worker * gradientFloats();
    float* const sums = room.sums + worker * sumFloats();
    const int64_t first = task * taskChannels_, count = std::min(taskChannels_, problem_.K - first);
    transformGradient(0, allTiles_, dy + first, count, room, gradients);
    sum({sources, gradients, allTiles_, 0, frequencies(), count}, false, sums);
    for (int64_t k = 0; k < count; ++k) transformBack(sums + k * sumStride_, first + k, add, dw);
  });
}

void Winograd2dWeightGradient::sum(const Part& part, bool add, float* sums) const {
  WinogradSum sum;
  sum.frequencies = part.frequencies;
  sum.sources = part.sources + part.firstFrequency * sourceFrequency();
  sum.gradients = part.gradients + part.firstFrequency * gradientFrequency();
  sum.sourceFrequencyStride = sourceFrequency();
  sum.sourceStride = sum.gradientStride = panel();
  sum.sourcePanelStride = sum.gradientPanelStride = blockTiles_ * panel();
  sum.gradientFrequencyStride = gradientFrequency();
  sum.tiles = part.tiles;
  sum.outputs = part.channels;
  sum.vectors = sumStride_ / lanes();
  sum.add = add;
  sum.sums = sums;
  sum.sumFrequencyStride = sumFrequency();
  sum.sumStride = sumStride_;
  products_.sum(sum);
}

void Winograd2dWeightGradient::transformBack(const float* sums, int64_t k, bool add, float* dw) const {
  WinogradFilterGradient part;
  part.sums = sums;
  part.slabs = slabs_;
  part.slabStride = sumFloats();
  part.frequencyStride = sumFrequency();
  part.channels = part.tapStride = problem_.C;
  part.taps = dw + k * problem_.taps() * problem_.C;
  part.add = add;
  tiles_.kernels->filterGradient(part);
}

}  // namespace voxgrad::cpu
