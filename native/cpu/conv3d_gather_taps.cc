// The gather for many channels: each tap of the kernel is a matrix product of the voxels that it finds inside
// the source with its weights, added to the output. Taps in the padding cost nothing, whatever the dilation,
// and rows need no zeros around them; reading and writing the output once per tap is what that costs. Where
// channels are fewer, the taps along one or more axes are summed before they are added, over the voxels that
// find the same ones inside.
//
// The order keeps near what is read again: for a block of output voxels, a chunk of reduced channels and two
// vectors of outputs, the weights of one product stay in the first-level cache while tile follows tile; the
// chunk's part of the source and the outputs of the block stay in the second.
#include <vector>

#include "../core/thread_pool.h"
#include "conv3d_gather.h"

namespace voxgrad::cpu {

namespace {

// Outputs [first, last) of an axis find the taps [firstTap, lastTap) inside the source.
struct Span {
  int64_t first, last, firstTap, lastTap;
};

// One span per tap, or, merged, one for all outputs that find the same taps inside.
std::vector<Span> spansOf(const GatherAxis& axis, bool merged) {
  std::vector<Span> spans;
  std::vector<int64_t> bounds{0, axis.count};
  for (int64_t j = 0; j < axis.taps; ++j) {
    const auto [first, last] = reachedOutputs(axis.count, axis.sourceExtent, axis.sourceStep, axis.offset(j));
    if (first < last) spans.push_back({first, last, j, j + 1});
    bounds.insert(bounds.end(), {std::min(first, axis.count), std::max<int64_t>(0, last)});
  }
  if (!merged) return spans;
  std::sort(bounds.begin(), bounds.end());
  std::vector<Span> parts;
  for (size_t i = 1; i < bounds.size(); ++i) {
    Span part{bounds[i - 1], bounds[i], axis.taps, 0};
    for (const Span& span : spans) {
      if (part.first < span.first || part.last > span.last) continue;
      part.firstTap = std::min(part.firstTap, span.firstTap);
      part.lastTap = std::max(part.lastTap, span.lastTap);
    }
    if (part.first < part.last && part.firstTap < part.lastTap) parts.push_back(part);
  }
  return parts;
}

}  // namespace

// Products of a block: for each, the groups of neighbouring voxels, by size, and the taps.
struct Gather::TapPlan {
  static constexpr int64_t kSizes = 3;
  struct Start {
    int64_t source, output;  // of the first voxel of a group, in floats
  };
  struct Product {
    int64_t ends[kSizes];  // where the groups of a size end among the starts
    int64_t endOfTaps;
  };
  // A row of the block: its place in the phase and its first voxel in source and output.
  struct Row {
    int64_t z, p, source, output;
  };
  struct Tap {
    int64_t index, source;  // place among the packed weights; floats from a voxel to what it reads
  };
  std::vector<Row> rows;
  std::vector<Start> starts;
  std::vector<Product> products;
  std::vector<Tap> taps;
};

bool Gather::paysPerTap(int64_t reduced, int64_t produced, int64_t taps) {
  constexpr int64_t kLeastReduced = 64;
  return produced > conv3dKernels().lanes && reduced >= kLeastReduced && taps > 1;
}

// Of reduced channels.
int64_t Gather::chunks() const {
  constexpr int64_t kChunkChannels = 256;
  return divideUp(reduced_, kChunkChannels);
}

void Gather::runTaps(const Phase& phase, const Buffers& buffers) const {
  constexpr int64_t kBlockVoxels = 256, kTasks = 64;
  const int64_t rows = problem_.N * phase.axis[0].count * phase.axis[1].count;
  const int64_t rowsPerBlock = std::max<int64_t>(1, kBlockVoxels / phase.axis[2].count);
  const int64_t blocks = divideUp(rows, rowsPerBlock);
  const int64_t columns = problem_.groups * divideUp(vectors_, kMaxVectors);
  const int64_t parts = std::min(columns, divideUp(kTasks, blocks));
  const auto plan = [&](int64_t block) {
    return planTaps(phase, block * rowsPerBlock, std::min(rows, (block + 1) * rowsPerBlock));
  };
  // Tasks that share a block share its plan too, which takes a while.
  std::vector<TapPlan> shared(static_cast<size_t>(parts > 1 ? blocks : 0));
  if (parts > 1)
    parallelFor(blocks, [&](int64_t block) { shared[static_cast<size_t>(block)] = plan(block); });
  parallelFor(blocks * parts, [&](int64_t task) {
    const int64_t block = task / parts, part = task % parts, first = columns * part / parts,
                  last = columns * (part + 1) / parts;
    if (parts > 1)
      runBlock(phase, buffers, shared[static_cast<size_t>(block)], first, last);
    else
      runBlock(phase, buffers, plan(block), first, last);
  });
}

// The taps along an axis are merged as long as the weights of a product fit the first-level cache.
Gather::TapPlan Gather::planTaps(const Phase& phase, int64_t firstRow, int64_t lastRow) const {
  constexpr int64_t kMostSteps = 800;
  std::vector<Span> spans[3];
  int64_t steps = divideUp(reduced_, chunks());
  bool merged = true;
  for (int axis = 2; axis >= 0; --axis) {
    steps *= phase.axis[axis].taps;
    merged = merged && steps <= kMostSteps;
    spans[axis] = spansOf(phase.axis[axis], merged);
  }
  const int64_t plane = sourceExtent_[1] * sourceExtent_[2];
  TapPlan plan;
  for (int64_t row = firstRow; row < lastRow; ++row) {
    const int64_t p = row % phase.axis[1].count, place = row / phase.axis[1].count;
    const int64_t z = place % phase.axis[0].count, n = place / phase.axis[0].count;
    const int64_t d = n * sourceExtent_[0] + z * phase.axis[0].sourceStep;
    plan.rows.push_back({z, p, (d * sourceExtent_[1] + p * phase.axis[1].sourceStep) * sourceExtent_[2],
                         outputRowOf(phase, n, z, p)});
  }
  for (const Span& d : spans[0]) {
    for (const Span& h : spans[1]) {
      for (const Span& w : spans[2]) {
        TapPlan::Product product;
        listGroups(phase, {d.first, h.first, w.first}, {d.last, h.last, w.last}, plan, product.ends);
        if (!plan.products.empty() ? product.ends[0] == plan.products.back().ends[0] : product.ends[0] == 0)
          continue;
        for (int64_t i = d.firstTap; i < d.lastTap; ++i) {
          for (int64_t j = h.firstTap; j < h.lastTap; ++j) {
            for (int64_t k = w.firstTap; k < w.lastTap; ++k) {
              const int64_t voxels = phase.axis[0].offset(i) * plane +
                                     phase.axis[1].offset(j) * sourceExtent_[2] + phase.axis[2].offset(k);
              plan.taps.push_back(
                  {(i * phase.axis[1].taps + j) * phase.axis[2].taps + k, voxels * sourceChannels_});
            }
          }
        }
        product.endOfTaps = static_cast<int64_t>(plan.taps.size());
        plan.products.push_back(product);
      }
    }
  }
  return plan;
}

// Cuts the voxels [first, last) of the phase that lie in the rows into groups, those of the largest size
// first.
void Gather::listGroups(const Phase& phase, const int64_t (&first)[3], const int64_t (&last)[3],
                        TapPlan& plan, int64_t (&ends)[3]) const {
  const GatherAxis& axisW = phase.axis[2];
  const int* const most = kernels_.maxGroups[kMaxVectors - 1];
  // The largest size first of those that fill a tile best.
  int64_t largest = TapPlan::kSizes - 1;
  while (largest > 0 && most[largest] * kGroupSizes[largest] < most[largest - 1] * kGroupSizes[largest - 1])
    --largest;
  for (int64_t size = TapPlan::kSizes - 1; size >= 0; --size) {
    const int64_t voxels = kGroupSizes[size];
    // What the larger sizes have left over of every row.
    const int64_t from =
        size == largest ? first[2] : std::max(first[2], last[2] - (last[2] - first[2]) % (2 * voxels));
    const int64_t to = size > largest ? from : from + (last[2] - from) / voxels * voxels;
    if (from >= to) {
      ends[size] = static_cast<int64_t>(plan.starts.size());
      continue;
    }
    for (const TapPlan::Row& row : plan.rows) {
      if (row.z < first[0] || row.z >= last[0] || row.p < first[1] || row.p >= last[1]) continue;
      for (int64_t q = from; q < to; q += voxels) {
        plan.starts.push_back({(row.source + q * axisW.sourceStep) * sourceChannels_,
                               (row.output + q * axisW.outputStep) * outputChannels_});
      }
    }
    ends[size] = static_cast<int64_t>(plan.starts.size());
  }
}

void Gather::runBlock(const Phase& phase, const Buffers& buffers, const TapPlan& plan, int64_t firstColumn,
                      int64_t lastColumn) const {
  const GatherAxis& axisW = phase.axis[2];
  const int64_t lanes = kernels_.lanes, taps = phase.rowTaps * axisW.taps;

  constexpr int64_t kFirstRow[kMaxGroups] = {};
  const float** const sources = threadScratch<const float*>(static_cast<size_t>(2 * taps));
  const float** const weights = sources + taps;
  int64_t offsets[kMaxGroups];
  float* outputs[kMaxGroups];
  GatherTile tile = {};
  tile.sources = sources;
  tile.sourceRows = 1;
  tile.rows = kFirstRow;
  tile.offsets = offsets;
  tile.weights = weights;
  tile.sourceStride = axisW.sourceStep * sourceChannels_;
  tile.outputs = outputs;
  tile.outputStride = axisW.outputStep * outputChannels_;

  const int64_t blocks = divideUp(vectors_, kMaxVectors);
  for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
    const int64_t firstReduced = reduced_ * chunk / chunks();
    tile.steps = reduced_ * (chunk + 1) / chunks() - firstReduced;
    for (int64_t column = firstColumn; column < lastColumn; ++column) {
      const int64_t group = column / blocks, block = column % blocks;
      const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
      const int64_t firstVector = group * vectors_ + block * kMaxVectors;
      const int64_t firstChannel = block * kMaxVectors * lanes;
      tile.channels = std::min(produced_ - firstChannel, vectors * lanes);
      float* const output = buffers.output + group * produced_ + firstChannel;
      if (chunk == 0 && !problem_.adds)
        fillBias(phase, plan, buffers.bias + firstVector * lanes, tile.channels, output);
      const float* const source = buffers.source + group * reduced_ + firstReduced;
      const float* const packed =
          buffers.packed + firstVector * floatsPerVector(phase) + firstReduced * vectors * lanes;
      int64_t next = 0, nextTap = 0;
      for (const TapPlan::Product& product : plan.products) {
        for (tile.segments = 0; nextTap < product.endOfTaps; ++nextTap, ++tile.segments) {
          sources[tile.segments] = source + plan.taps[nextTap].source;
          weights[tile.segments] = packed + plan.taps[nextTap].index * reduced_ * vectors * lanes;
        }
        for (int64_t size = TapPlan::kSizes - 1; size >= 0; --size) {
          while (next < product.ends[size]) {
            const int64_t most = kernels_.maxGroups[vectors - 1][size];
            const int64_t used = std::min(most, product.ends[size] - next);
            for (int64_t g = 0; g < used; ++g, ++next) {
              offsets[g] = plan.starts[next].source;
              outputs[g] = output + plan.starts[next].output;
            }
            kernels_.gather[0][vectors - 1][size][used - 1](tile);
          }
        }
      }
    }
  }
}

void Gather::fillBias(const Phase& phase, const TapPlan& plan, const float* bias, int64_t channels,
                      float* output) const {
  const GatherAxis& axisW = phase.axis[2];
  for (const TapPlan::Row& row : plan.rows) {
    float* to = output + row.output * outputChannels_;
    for (int64_t q = 0; q < axisW.count; ++q, to += axisW.outputStep * outputChannels_)
      std::copy_n(bias, channels, to);
  }
}

}  // namespace voxgrad::cpu
