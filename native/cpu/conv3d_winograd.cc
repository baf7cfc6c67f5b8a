#include "conv3d_winograd.h"

#include "worker_tasks.h"

namespace voxgrad::cpu {
namespace {

// Transformed tiles of one plane that leave room for the filters and outputs in a 2 MiB second-level cache.
constexpr int64_t kBlockFloats = 96 * 1024;
constexpr int64_t kMostBlockTiles = 96, kLeastBlockTiles = 12;

}  // namespace

bool winogradFits(const Conv3dProblem& p) {
  if (p.R != 3 || p.S != 3 || p.T != 3 || p.groups != 1) return false;
  for (int axis = 0; axis < 3; ++axis) {
    if (p.stride[axis] != 1 || p.dilation[axis] != 1) return false;
  }
  return true;
}

Winograd::Winograd(const Conv3dProblem& p, bool inputGradient)
    : problem_(p), kernels_(winogradKernels()), inputGradient_(inputGradient) {
  const int64_t xExtent[3] = {p.D, p.H, p.W}, yExtent[3] = {p.Z, p.P, p.Q};
  for (int axis = 0; axis < 3; ++axis) {
    tiles_.sourceExtent[axis] = inputGradient ? yExtent[axis] : xExtent[axis];
    tiles_.outputExtent[axis] = inputGradient ? xExtent[axis] : yExtent[axis];
    tiles_.pad[axis] = inputGradient ? 2 - p.pad[axis] : p.pad[axis];
  }
  tiles_.sourceChannels = inputGradient ? p.K : p.C;
  outputChannels_ = inputGradient ? p.C : p.K;
  sourceStride_ = divideUp(tiles_.sourceChannels, lanes()) * lanes();
  vectors_ = divideUp(outputChannels_, lanes());

  allTiles_ = tiles_.count(p.N);
  workers_ = ThreadPool::shared().size();
  const int64_t room = kBlockFloats / (kPlaneFrequencies * sourceStride_);
  const int64_t fitting = std::clamp(room, kLeastBlockTiles, kMostBlockTiles);
  // Blocks of equal size, and a whole number of them for every worker where there are few; where there are
  // fewer than workers, these divide the output channels, so that each reads its own filters alone.
  blocks_ = divideUp(allTiles_, fitting);
  panels_ = divideUp(vectors_, kWinogradVectors);
  parts_ = std::min(panels_, workers_ / blocks_);
  if (parts_ > 1) {
    workers_ = blocks_ * parts_;
  } else {
    parts_ = 1;
    if (blocks_ < 4 * workers_) blocks_ = divideUp(blocks_, workers_) * workers_;
  }
  blockTiles_ = divideUp(allTiles_, blocks_);
  blocks_ = divideUp(allTiles_, blockTiles_);
  workers_ = std::min(workers_, blocks_ * parts_);
}

struct Winograd::Room {
  float *bias, *zeroRow, *scratch;
  size_t bytes;
};

Winograd::Room Winograd::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(vectors_ * lanes());
  room.zeroRow = cursor.floats(tiles_.sourceRow());
  room.scratch = cursor.floats(workers_ * scratchFloats());
  room.bytes = cursor.used();
  return room;
}

size_t Winograd::workspace() const { return divide(nullptr).bytes; }

void Winograd::run(const float* source, const float* packed, const float* bias, float* output,
                   void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, tiles_.sourceRow(), 0.0f);
  forTasks(workers_, blocks_ * parts_, [&](int64_t worker, int64_t task) {
    const int64_t first = task / parts_ * blockTiles_, part = task % parts_;
    runBlock(first, std::min(blockTiles_, allTiles_ - first), panels_ * part / parts_ * kWinogradVectors,
             std::min(vectors_, panels_ * (part + 1) / parts_ * kWinogradVectors), source, packed, room,
             room.scratch + worker * scratchFloats(), output);
  });
}

// Filters lie as [plane][block of kWinogradVectors][frequency][source channel][vector in block][lane], in the
// order in which runBlock reads them. Some source channels are transformed at a time and copied frequency by
// frequency: one channel would write a line to every frequency, and all of these lines compete for the same
// places in the caches.
void Winograd::pack(const float* w, float* packed) const {
  constexpr int64_t kPad = 16;
  const int64_t sources = tiles_.sourceChannels, chunks = divideUp(sources, kFilterChunk);
  const int64_t blocks = divideUp(vectors_, int64_t{kWinogradVectors});
  parallelFor(blocks * chunks, [&](int64_t task) {
    const int64_t block = task / chunks * kWinogradVectors, first = task % chunks * kFilterChunk;
    const int64_t vectors = std::min<int64_t>(kWinogradVectors, vectors_ - block);
    const int64_t count = std::min(kFilterChunk, sources - first), width = vectors * lanes();
    const int64_t each = count * width + kPad;
    float* const chunk = threadScratch<float>(static_cast<size_t>(kPlanes * kPlaneFrequencies * each));
    WinogradFilter filter;
    filter.reduced = count;
    filter.planeStride = kPlaneFrequencies * each;
    filter.frequencyStride = each;
    filter.filterReducedStride = width;
    for (int64_t v = 0; v < vectors; ++v) {
      filter.filters = chunk + v * lanes();
      transformFilters(w, block + v, first, filter);
    }
    for (int64_t f = 0; f < kPlanes * kPlaneFrequencies; ++f)
      std::copy_n(chunk + f * each, count * width,
                  packed + f / kPlaneFrequencies * filterPlaneFloats() +
                      (block * kPlaneFrequencies * lanes() + f % kPlaneFrequencies * width) * sources +
                      first * width);
  });
}

// Those of one vector of output channels and some source channels, from `first` on.
void Winograd::transformFilters(const float* w, int64_t vector, int64_t first, WinogradFilter filter) const {
  constexpr int64_t kMostLanes = 16, kTaps = 27;
  const int64_t filterFloats = kTaps * problem_.C;  // of one output channel of the problem
  filter.channels = std::min(lanes(), outputChannels_ - vector * lanes());
  alignas(64) float taps[kTaps * kFilterChunk * kMostLanes];
  if (inputGradient_) {
    // Weights [K][27][C] already have the produced channels in lanes; the taps run backwards.
    filter.taps = w + first * filterFloats + (kTaps - 1) * problem_.C + vector * lanes();
    filter.tapReducedStride = filterFloats;
    filter.tapStride = -problem_.C;
  } else {
    for (int64_t tap = 0; tap < kTaps; ++tap) {
      conv3dKernels().packTransposed(taps + tap * kFilterChunk * lanes(), lanes(),
                                     w + vector * lanes() * filterFloats + tap * problem_.C + first,
                                     filterFloats, filter.channels, filter.reduced);
    }
    filter.taps = taps;
    filter.tapReducedStride = lanes();
    filter.tapStride = kFilterChunk * lanes();
  }
  kernels_.filter(filter);
}

void Winograd::runBlock(int64_t firstTile, int64_t tiles, int64_t firstVector, int64_t lastVector,
                        const float* source, const float* filters, const Room& room, float* scratch,
                        float* output) const {
  float* const transformed = scratch;
  float* const products = scratch + kPlaneFrequencies * sourceFrequency();
  for (int64_t plane = 0; plane < kPlanes; ++plane) {
    tiles_.transformSource(kernels_, plane, firstTile, tiles, source, room.zeroRow, transformed,
                           sourceFrequency(), sourceStride_);

    for (int64_t vector = firstVector; vector < lastVector; vector += kWinogradVectors) {
      WinogradProduct product;
      product.frequencies = kPlaneFrequencies;
      product.tiles = transformed;
      product.tileFrequencyStride = sourceFrequency();
      product.tileStride = sourceStride_;
      product.filters = filters + plane * filterPlaneFloats() +
                        vector * kPlaneFrequencies * tiles_.sourceChannels * lanes();
      product.depth = tiles_.sourceChannels;
      product.vectors = std::min<int64_t>(kWinogradVectors, vectors_ - vector);
      product.filterFrequencyStride = product.depth * product.vectors * lanes();
      product.add = false;
      product.products = products;
      product.productFrequencyStride = productFrequency();
      product.rows = tiles;
      kernels_.product(product);

      tiles_.forEachRow(firstTile, tiles, [&](int64_t done, int64_t n, const int64_t(&at)[3], int64_t count) {
        WinogradOutput part;
        part.plane = plane;
        part.products = products + done * product.vectors * lanes();
        part.frequencyStride = productFrequency();
        part.vectors = product.vectors;
        part.tiles = count;
        for (int slice = 0; slice < 2; ++slice) {
          for (int height = 0; height < 2; ++height) {
            const int64_t d = 2 * at[0] + slice, h = 2 * at[1] + height;
            const int64_t voxel =
                ((n * tiles_.outputExtent[0] + d) * tiles_.outputExtent[1] + h) * tiles_.outputExtent[2] +
                2 * at[2];
            const bool inside = d < tiles_.outputExtent[0] && h < tiles_.outputExtent[1];
            part.rows[slice][height] = inside ? output + voxel * outputChannels_ + vector * lanes() : nullptr;
          }
        }
        part.voxels = tiles_.outputExtent[2] - 2 * at[2];
        part.voxelStride = outputChannels_;
        part.bias = room.bias + vector * lanes();
        part.channels = outputChannels_ - vector * lanes();
        kernels_.output(part);
      });
    }
  }
}

}  // namespace voxgrad::cpu
