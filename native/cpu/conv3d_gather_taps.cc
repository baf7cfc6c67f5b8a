// The gather for many channels: each tap of the kernel is a matrix product of the voxels that it finds inside
// the source with its weights, added to the output. Taps in the padding cost nothing, whatever the dilation,
// and rows need no zeros around them; reading and writing the output once per tap is what that costs.
//
// The order keeps near what is read again: for a block of output voxels, a chunk of reduced channels and two
// vectors of outputs, the weights of one tap stay in the first-level cache while tile follows tile; the
// chunk's part of the source and the outputs of the block stay in the second.
#include "../core/thread_pool.h"
#include "conv3d_gather.h"

namespace voxgrad::cpu {

// Groups of neighbouring voxels, tap by tap and in each tap by size.
struct Gather::TapGroups {
  struct Start {
    int64_t source, output;  // of the first voxel, in floats
  };
  static constexpr int64_t kSizes = 3;
  Start* starts;
  int64_t* ends;  // [taps][kSizes]: where the groups of a size end among the starts
};

bool Gather::paysPerTap() const {
  constexpr int64_t kLeastReduced = 64;
  return vectors_ >= 2 && reduced_ >= kLeastReduced && problem_.taps() > 1;
}

void Gather::runTaps(const Phase& phase, const Buffers& buffers) const {
  constexpr int64_t kBlockVoxels = 256, kTasks = 64;
  const int64_t rows = problem_.N * phase.axis[0].count * phase.axis[1].count;
  const int64_t rowsPerBlock = std::max<int64_t>(1, kBlockVoxels / phase.axis[2].count);
  const int64_t blocks = divideUp(rows, rowsPerBlock);
  const int64_t columns = problem_.groups * divideUp(vectors_, kMaxVectors);
  const int64_t parts = std::min(columns, divideUp(kTasks, blocks));
  parallelFor(blocks * parts, [&](int64_t task) {
    const int64_t block = task / parts, part = task % parts;
    runBlock(phase, buffers, block * rowsPerBlock, std::min(rows, (block + 1) * rowsPerBlock),
             columns * part / parts, columns * (part + 1) / parts);
  });
}

void Gather::listGroups(const Phase& phase, int64_t firstRow, int64_t lastRow, TapGroups& groups) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  const int64_t step = axisW.sourceStep;
  const int* const most = kernels_.maxGroups[kMaxVectors - 1];
  // The largest size first of those that fill a tile best.
  int64_t largest = TapGroups::kSizes - 1;
  while (largest > 0 && most[largest] * kGroupSizes[largest] < most[largest - 1] * kGroupSizes[largest - 1])
    --largest;
  int64_t count = 0;
  for (int64_t tap = 0; tap < phase.rowTaps * axisW.taps; ++tap) {
    const int64_t rowTap = tap / axisW.taps, offset = axisW.offset(tap % axisW.taps);
    const int64_t first = offset < 0 ? divideUp(-offset, step) : 0;
    const int64_t end = std::min(axisW.count, divideUp(sourceExtent_[2] - offset, step));
    for (int64_t size = TapGroups::kSizes - 1; size >= 0; --size) {
      const int64_t voxels = kGroupSizes[size];
      // What the larger sizes have left over of every row.
      const int64_t from = size == largest ? first : std::max(first, end - (end - first) % (2 * voxels));
      const int64_t to = size > largest ? from : from + (end - from) / voxels * voxels;
      for (int64_t row = firstRow; from < to && row < lastRow; ++row) {
        const int64_t p = row % axisH.count, z = row / axisH.count % axisD.count;
        const int64_t n = row / (axisH.count * axisD.count);
        const int64_t d = z * axisD.sourceStep + axisD.offset(rowTap / axisH.taps);
        const int64_t h = p * axisH.sourceStep + axisH.offset(rowTap % axisH.taps);
        if (d < 0 || d >= sourceExtent_[0] || h < 0 || h >= sourceExtent_[1]) continue;
        const int64_t sourceRow = ((n * sourceExtent_[0] + d) * sourceExtent_[1] + h) * sourceExtent_[2];
        const int64_t outputRow = outputRowOf(phase, n, z, p);
        for (int64_t q = from; q < to; q += voxels) {
          groups.starts[count++] = {(sourceRow + q * step + offset) * sourceChannels_,
                                    (outputRow + q * axisW.outputStep) * outputChannels_};
        }
      }
      groups.ends[tap * TapGroups::kSizes + size] = count;
    }
  }
}

void Gather::runBlock(const Phase& phase, const Buffers& buffers, int64_t firstRow, int64_t lastRow,
                      int64_t firstColumn, int64_t lastColumn) const {
  const GatherAxis& axisW = phase.axis[2];
  const int64_t lanes = kernels_.lanes, taps = phase.rowTaps * axisW.taps;
  TapGroups groups;
  groups.starts =
      threadScratch<TapGroups::Start>(static_cast<size_t>(taps * (lastRow - firstRow) * axisW.count));
  groups.ends = threadScratch<int64_t>(static_cast<size_t>(taps * TapGroups::kSizes));
  listGroups(phase, firstRow, lastRow, groups);

  constexpr int64_t kChunkChannels = 256;
  const int64_t chunks = divideUp(reduced_, kChunkChannels);
  constexpr int64_t kFirstRow[kMaxGroups] = {};
  const float* weights;
  int64_t offsets[kMaxGroups];
  float* outputs[kMaxGroups];
  GatherTile tile = {};
  tile.sources = &buffers.source;
  tile.sourceRows = 1;
  tile.rows = kFirstRow;
  tile.offsets = offsets;
  tile.weights = &weights;
  tile.segments = 1;
  tile.sourceStride = axisW.sourceStep * sourceChannels_;
  tile.outputs = outputs;
  tile.outputStride = axisW.outputStep * outputChannels_;

  const int64_t blocks = divideUp(vectors_, kMaxVectors);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t firstReduced = reduced_ * chunk / chunks;
    tile.steps = reduced_ * (chunk + 1) / chunks - firstReduced;
    for (int64_t column = firstColumn; column < lastColumn; ++column) {
      const int64_t group = column / blocks, block = column % blocks;
      const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
      const int64_t firstVector = group * vectors_ + block * kMaxVectors;
      const int64_t firstChannel = block * kMaxVectors * lanes;
      tile.channels = std::min(produced_ - firstChannel, vectors * lanes);
      float* const output = buffers.output + group * produced_ + firstChannel;
      if (chunk == 0)
        fillBias(phase, buffers.bias + firstVector * lanes, tile.channels, firstRow, lastRow, output);
      const float* const packed = buffers.packed + firstVector * floatsPerVector(phase);
      int64_t next = 0;
      for (int64_t tap = 0; tap < taps; ++tap) {
        weights = packed + (tap * reduced_ + firstReduced) * vectors * lanes;
        for (int64_t size = TapGroups::kSizes - 1; size >= 0; --size) {
          const int64_t end = groups.ends[tap * TapGroups::kSizes + size];
          while (next < end) {
            const int64_t used = std::min<int64_t>(kernels_.maxGroups[vectors - 1][size], end - next);
            for (int64_t g = 0; g < used; ++g, ++next) {
              offsets[g] = groups.starts[next].source + group * reduced_ + firstReduced;
              outputs[g] = output + groups.starts[next].output;
            }
            kernels_.gather[0][vectors - 1][size][used - 1](tile);
          }
        }
      }
    }
  }
}

void Gather::fillBias(const Phase& phase, const float* bias, int64_t channels, int64_t firstRow,
                      int64_t lastRow, float* output) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  for (int64_t row = firstRow; row < lastRow; ++row) {
    const int64_t p = row % axisH.count, z = row / axisH.count % axisD.count;
    const int64_t n = row / (axisH.count * axisD.count);
    float* to = output + outputRowOf(phase, n, z, p) * outputChannels_;
    for (int64_t q = 0; q < axisW.count; ++q, to += axisW.outputStep * outputChannels_)
      std::copy_n(bias, channels, to);
  }
}

}  // namespace voxgrad::cpu
