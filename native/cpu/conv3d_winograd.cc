#include "conv3d_winograd.h"

#include <atomic>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
namespace {

// Source slices of a tile that make a plane: first + sign * second.
struct PlaneSlices {
  int first, second;
  float sign;
};
constexpr PlaneSlices kPlaneSlices[kPlanes] = {{0, 2, -1.0f}, {1, 2, 1.0f}, {2, 1, -1.0f}, {1, 3, -1.0f}};

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
    sourceExtent_[axis] = inputGradient ? yExtent[axis] : xExtent[axis];
    outputExtent_[axis] = inputGradient ? xExtent[axis] : yExtent[axis];
    tiles_[axis] = divideUp(outputExtent_[axis], 2);
    pad_[axis] = inputGradient ? 2 - p.pad[axis] : p.pad[axis];
  }
  sourceChannels_ = inputGradient ? p.K : p.C;
  outputChannels_ = inputGradient ? p.C : p.K;
  sourceStride_ = divideUp(sourceChannels_, lanes()) * lanes();
  vectors_ = divideUp(outputChannels_, lanes());

  allTiles_ = p.N * tiles_[0] * tiles_[1] * tiles_[2];
  workers_ = ThreadPool::shared().size();
  const int64_t room = kBlockFloats / (kPlaneFrequencies * sourceStride_);
  const int64_t fitting = std::clamp(room, kLeastBlockTiles, kMostBlockTiles);
  // Blocks of equal size, and a whole number of them for every worker where there are few.
  blocks_ = divideUp(allTiles_, fitting);
  if (blocks_ < 4 * workers_) blocks_ = divideUp(blocks_, workers_) * workers_;
  blockTiles_ = divideUp(allTiles_, blocks_);
  blocks_ = divideUp(allTiles_, blockTiles_);
  workers_ = std::min(workers_, blocks_);
}

struct Winograd::Room {
  float *bias, *zeroRow, *filters, *scratch;
  size_t bytes;
};

Winograd::Room Winograd::divide(void* workspace) const {
  WorkspaceCursor cursor(workspace);
  Room room;
  room.bias = cursor.floats(vectors_ * lanes());
  room.zeroRow = cursor.floats(sourceExtent_[2] * sourceChannels_);
  room.filters = cursor.floats(kPlanes * filterPlaneFloats());
  room.scratch = cursor.floats(workers_ * scratchFloats());
  room.bytes = cursor.used();
  return room;
}

size_t Winograd::workspace() const { return divide(nullptr).bytes; }

void Winograd::run(const float* source, const float* w, const float* bias, float* output,
                   void* workspace) const {
  const Room room = divide(workspace);
  std::fill_n(room.bias, vectors_ * lanes(), 0.0f);
  if (bias) std::copy_n(bias, outputChannels_, room.bias);
  std::fill_n(room.zeroRow, sourceExtent_[2] * sourceChannels_, 0.0f);
  transformFilters(w, room.filters);
  std::atomic<int64_t> next{0};
  parallelFor(workers_, [&](int64_t worker) {
    for (int64_t block = next++; block < blocks_; block = next++) {
      const int64_t first = block * blockTiles_;
      runBlock(first, std::min(blockTiles_, allTiles_ - first), source, room,
               room.scratch + worker * scratchFloats(), output);
    }
  });
}

// Filters lie as [plane][block of kWinogradVectors][frequency][source channel][vector in block][lane], in the
// order in which runBlock reads them.
void Winograd::transformFilters(const float* w, float* filters) const {
  constexpr int64_t kChunk = 16, kMostLanes = 16, kTaps = 27;
  const int64_t chunks = divideUp(sourceChannels_, kChunk);
  const int64_t filterFloats = kTaps * problem_.C;  // of one output channel of the problem
  parallelFor(vectors_ * chunks, [&](int64_t task) {
    const int64_t vector = task / chunks, firstReduced = task % chunks * kChunk;
    const int64_t block = vector / kWinogradVectors * kWinogradVectors;
    const int64_t width = std::min<int64_t>(kWinogradVectors, vectors_ - block) * lanes();
    WinogradFilter filter;
    filter.reduced = std::min(kChunk, sourceChannels_ - firstReduced);
    filter.channels = std::min(lanes(), outputChannels_ - vector * lanes());
    filter.filters = filters + block * kPlaneFrequencies * sourceChannels_ * lanes() + firstReduced * width +
                     vector % kWinogradVectors * lanes();
    filter.planeStride = filterPlaneFloats();
    filter.frequencyStride = sourceChannels_ * width;
    filter.filterReducedStride = width;
    alignas(64) float taps[kTaps * kChunk * kMostLanes];
    if (inputGradient_) {
      // Weights [K][27][C] already have the produced channels in lanes; the taps run backwards.
      filter.taps = w + firstReduced * filterFloats + (kTaps - 1) * problem_.C + vector * lanes();
      filter.tapReducedStride = filterFloats;
      filter.tapStride = -problem_.C;
    } else {
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        conv3dKernels().packTransposed(
            taps + tap * kChunk * lanes(), lanes(),
            w + vector * lanes() * filterFloats + tap * problem_.C + firstReduced, filterFloats,
            filter.channels, filter.reduced);
      }
      filter.taps = taps;
      filter.tapReducedStride = lanes();
      filter.tapStride = kChunk * lanes();
    }
    kernels_.filter(filter);
  });
}

// Visits the runs of tiles [firstTile, firstTile + tiles) that lie in one row: place in the block, sample,
// tile position and count.
template <typename Visit>
void Winograd::forEachRow(int64_t firstTile, int64_t tiles, Visit visit) const {
  for (int64_t done = 0; done < tiles;) {
    const int64_t tile = firstTile + done, row = tile / tiles_[2];
    const int64_t at[3] = {row / tiles_[1] % tiles_[0], row % tiles_[1], tile % tiles_[2]};
    const int64_t count = std::min(tiles - done, tiles_[2] - at[2]);
    visit(done, row / tiles_[1] / tiles_[0], at, count);
    done += count;
  }
}

void Winograd::runBlock(int64_t firstTile, int64_t tiles, const float* source, const Room& room,
                        float* scratch, float* output) const {
  float* const transformed = scratch;
  float* const products = scratch + kPlaneFrequencies * sourceFrequency();
  const int64_t sourceRow = sourceExtent_[2] * sourceChannels_;

  for (int64_t plane = 0; plane < kPlanes; ++plane) {
    const PlaneSlices& slices = kPlaneSlices[plane];
    forEachRow(firstTile, tiles, [&](int64_t done, int64_t n, const int64_t(&at)[3], int64_t count) {
      const auto rowOf = [&](int slice, int height) {
        const int64_t d = 2 * at[0] + slice - pad_[0], h = 2 * at[1] + height - pad_[1];
        const bool inside = d >= 0 && d < sourceExtent_[0] && h >= 0 && h < sourceExtent_[1];
        return inside ? source + ((n * sourceExtent_[0] + d) * sourceExtent_[1] + h) * sourceRow
                      : room.zeroRow;
      };
      WinogradSource part;
      for (int height = 0; height < 4; ++height) {
        part.first[height] = rowOf(slices.first, height);
        part.second[height] = rowOf(slices.second, height);
      }
      part.sign = slices.sign;
      part.channels = sourceChannels_;
      part.width = sourceExtent_[2];
      part.begin = 2 * at[2] - pad_[2];
      part.tiles = count;
      part.transformed = transformed + done * sourceStride_;
      part.frequencyStride = sourceFrequency();
      part.tileStride = sourceStride_;
      kernels_.source(part);
    });

    for (int64_t vector = 0; vector < vectors_; vector += kWinogradVectors) {
      WinogradProduct product;
      product.tiles = transformed;
      product.tileFrequencyStride = sourceFrequency();
      product.tileStride = sourceStride_;
      product.filters = room.filters + plane * filterPlaneFloats() +
                        vector * kPlaneFrequencies * sourceChannels_ * lanes();
      product.depth = sourceChannels_;
      product.vectors = std::min<int64_t>(kWinogradVectors, vectors_ - vector);
      product.products = products;
      product.productFrequencyStride = productFrequency();
      product.rows = tiles;
      kernels_.product(product);

      forEachRow(firstTile, tiles, [&](int64_t done, int64_t n, const int64_t(&at)[3], int64_t count) {
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
                ((n * outputExtent_[0] + d) * outputExtent_[1] + h) * outputExtent_[2] + 2 * at[2];
            const bool inside = d < outputExtent_[0] && h < outputExtent_[1];
            part.rows[slice][height] = inside ? output + voxel * outputChannels_ + vector * lanes() : nullptr;
          }
        }
        part.voxels = outputExtent_[2] - 2 * at[2];
        part.voxelStride = outputChannels_;
        part.bias = room.bias + vector * lanes();
        part.channels = outputChannels_ - vector * lanes();
        kernels_.output(part);
      });
    }
  }
}

}  // namespace voxgrad::cpu
