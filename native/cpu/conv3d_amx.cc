#include "conv3d_amx.h"

#include "../core/thread_pool.h"
#include "grid_cursor.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kTile = kAmxTileRows;
constexpr int64_t kSumFloats = kTile * kAmxColumns;  // of sixteen voxels and a block of columns

}  // namespace

// What a task holds: tiles of sixteen voxels, the last one filled up with voxels that do not exist.
struct AmxConvolution::Block {
  int64_t voxels, tiles, firstColumn, columns;
  struct Place {
    int64_t at[3];           // in the phase
    int64_t source, output;  // the numbers of the voxels
  };
  Place* places;          // [voxels]
  const float** sources;  // [tiles][16]: of one tap, null in the padding
  // A tile sums where its voxels lie, evenly spaced in the output, or in memory of this thread.
  struct Tile {
    float* sums;
    int64_t stride, columnStride;  // floats between voxels, between blocks of columns
    bool inOutput, begun;
    bool reached;  // by a tap: some source is not null
  };
  Tile* own;    // [tiles + 1]: the sums of the last one nobody reads
  char* panel;  // of the left factor
};

AmxConvolution::AmxConvolution(const Conv3dProblem& p, bool inputGradient)
    : problem_(p),
      kernels_(amxKernels()),
      inputGradient_(inputGradient),
      sourceExtent_{p.D, p.H, p.W},
      outputExtent_{p.Z, p.P, p.Q},
      kernel_{p.R, p.S, p.T},
      reduced_(p.C),
      produced_(p.K),
      sourceVoxel_(p.xVoxel()),
      outputVoxel_(p.yVoxel()) {
  if (inputGradient) {
    std::swap(sourceExtent_, outputExtent_);
    std::swap(reduced_, produced_);
    std::swap(sourceVoxel_, outputVoxel_);
  }
  steps_ = divideUp(reduced_, kAmxDepth);
  chunks_ = divideUp(steps_, kChunkSteps);
  columns_ = divideUp(produced_, kAmxColumns);

  int64_t counts[3] = {1, 1, 1}, most = 0;
  for (int a = 0; a < 3 && inputGradient; ++a) counts[a] = std::min(p.stride[a], outputExtent_[a]);
  for (int64_t i = 0; i < counts[0] * counts[1] * counts[2]; ++i) {
    const int64_t at[3] = {i / (counts[1] * counts[2]), i / counts[2] % counts[1], i % counts[2]};
    Phase phase;
    phase.voxels = p.N;
    for (int a = 0; a < 3; ++a) {
      phase.axis[a] = inputGradient ? gradientAxis(sourceExtent_[a], kernel_[a], outputExtent_[a],
                                                   p.stride[a], p.pad[a], p.dilation[a], at[a])
                                    : forwardAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], p.stride[a],
                                                  p.pad[a], p.dilation[a]);
      phase.voxels *= phase.axis[a].count;
    }
    if (!p.adds && phase.taps() == 0) {
      skips_ = true;
      continue;
    }
    most = std::max(most, phase.voxels);
    phases_.push_back(phase);
  }
  constexpr int64_t kMostVoxels = 256, kLeastVoxels = 64, kTasks = 32, kMostColumns = 16;
  const int64_t even = divideUp(most, std::max<int64_t>(1, divideUp(most, kMostVoxels)));
  const int64_t wanted = divideUp(most * static_cast<int64_t>(phases_.size()), kTasks);
  blockVoxels_ = divideUp(std::min(even, std::max(wanted, kLeastVoxels)), kAmxRows) * kAmxRows;
  blocks_ = 0;
  for (Phase& phase : phases_) {
    phase.firstBlock = blocks_;
    blocks_ += divideUp(phase.voxels, blockVoxels_);
  }
  // More parts than a task is worth would each cut the same source.
  constexpr int64_t kTaskFlops = 1 << 22;
  const int64_t tasks = std::min(kTasks / 2, p.flops() / kTaskFlops);
  parts_ = std::clamp(tasks / std::max<int64_t>(1, blocks_), divideUp(columns_, kMostColumns), columns_);
}

bool AmxConvolution::fits(const Conv3dProblem& p) {
  return usesAmx() && p.groups == 1 && p.C >= kAmxDepth && p.K >= kAmxColumns;
}

bool AmxConvolution::reachesAll(const Conv3dProblem& p) {
  const int64_t kernel[3] = {p.R, p.S, p.T};
  for (int a = 0; a < 3; ++a) {
    if (kernel[a] < p.stride[a]) return false;
  }
  return true;
}

void AmxConvolution::run(const ConvolutionSource& source, const float* packed, const float* bias,
                         float* output, void*) const {
  if (skips_) fill(bias, output);
  // One part after another: its weights stay in the second-level cache.
  parallelFor(blocks_ * parts_, [&](int64_t task) {
    const int64_t index = task % blocks_, part = task / blocks_;
    size_t i = phases_.size() - 1;
    while (phases_[i].firstBlock > index) --i;
    const Phase& phase = phases_[i];
    runBlock(source, packed, bias, output, phase, (index - phase.firstBlock) * blockVoxels_,
             columns_ * part / parts_, columns_ * (part + 1) / parts_);
  });
}

// What voxels hold that no tap reaches: the bias, or zero.
void AmxConvolution::fill(const float* bias, float* output) const {
  const int64_t rows = problem_.N * outputExtent_[0] * outputExtent_[1];
  parallelFor(rows, [&](int64_t row) {
    float* to = output + row * outputExtent_[2] * outputVoxel_;
    for (int64_t i = 0; i < outputExtent_[2]; ++i, to += outputVoxel_) {
      if (bias) {
        std::copy_n(bias, produced_, to);
      } else {
        std::fill_n(to, produced_, 0.0f);
      }
    }
  });
}

// The tap of the kernel that is the index-th of a phase.
int64_t AmxConvolution::tapOf(const Phase& phase, int64_t index) const {
  const GatherAxis *const d = &phase.axis[0], *const h = &phase.axis[1], *const w = &phase.axis[2];
  const int64_t r = index / (h->taps * w->taps), s = index / w->taps % h->taps, t = index % w->taps;
  return (d->tap(r) * problem_.S + h->tap(s)) * problem_.T + w->tap(t);
}

void AmxConvolution::runBlock(const ConvolutionSource& source, const float* packed, const float* bias,
                              float* output, const Phase& phase, int64_t firstVoxel, int64_t firstColumn,
                              int64_t endColumn) const {
  Block block;
  block.voxels = std::min(blockVoxels_, phase.voxels - firstVoxel);
  block.tiles = divideUp(block.voxels, kTile);
  block.firstColumn = firstColumn;
  block.columns = endColumn - firstColumn;
  block.places = threadScratch<Block::Place>(static_cast<size_t>(block.voxels));
  block.sources = threadScratch<const float*>(static_cast<size_t>(block.tiles * kTile));
  place(phase, firstVoxel, block);
  placeSums(phase, output, block);
  begin(block, bias, output);
  kernels_.begin();
  for (int64_t tap = 0; tap < phase.taps(); ++tap) {
    findSources(phase, tap, source.data, block);
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      addTap(source.norm, panelOf(packed, tapOf(phase, tap), chunk, firstColumn), chunk, block);
  }
  kernels_.end();
  store(block, output);
}

void AmxConvolution::place(const Phase& phase, int64_t firstVoxel, Block& block) const {
  const GatherAxis(&axis)[3] = phase.axis;
  GridCursor cursor(axis[0].count, axis[1].count, axis[2].count, firstVoxel);
  for (int64_t i = 0; i < block.voxels; ++i, cursor.advance()) {
    Block::Place& place = block.places[i];
    place.source = place.output = cursor.n;
    for (int a = 0; a < 3; ++a) {
      const int64_t at = place.at[a] = cursor.at[a];
      place.source = place.source * sourceExtent_[a] + at * axis[a].sourceStep;
      place.output = place.output * outputExtent_[a] + axis[a].first + at * axis[a].outputStep;
    }
  }
}

// Sums of few products are kept in the output itself, of many in memory whose lines do not compete for the
// same places of the first-level cache.
void AmxConvolution::placeSums(const Phase& phase, float* output, Block& block) const {
  constexpr int64_t kFewProducts = 4;
  const bool few = phase.taps() * chunks_ <= kFewProducts && produced_ % kAmxColumns == 0;
  constexpr int64_t kPanelLines = kChunkSteps * kAmxStepBytes / 64, kSumLines = kSumFloats / 16;
  Line* const lines =
      threadScratch<Line>(static_cast<size_t>(kPanelLines + (block.tiles + 1) * block.columns * kSumLines));
  block.panel = reinterpret_cast<char*>(lines);
  block.own = threadScratch<Block::Tile>(static_cast<size_t>(block.tiles + 1));
  for (int64_t tile = 0; tile <= block.tiles; ++tile) {
    const Block::Place* const places = block.places + tile * kTile;
    Block::Tile& own = block.own[tile];
    own.begun = false;
    own.inOutput = few && (tile + 1) * kTile <= block.voxels;
    const int64_t step = own.inOutput ? places[1].output - places[0].output : 1;
    for (int64_t i = 2; own.inOutput && i < kTile; ++i)
      own.inOutput = places[i].output - places[i - 1].output == step;
    if (own.inOutput) {
      own.sums = output + places[0].output * outputVoxel_ + block.firstColumn * kAmxColumns;
      own.stride = step * outputVoxel_;
      own.columnStride = kAmxColumns;
    } else {
      own.sums = lines[kPanelLines + tile * block.columns * kSumLines].floats;
      own.stride = kAmxColumns;
      own.columnStride = kSumFloats;
    }
  }
}

void AmxConvolution::findSources(const Phase& phase, int64_t tap, const float* source, Block& block) const {
  const GatherAxis(&axis)[3] = phase.axis;
  const int64_t taps[3] = {tap / (axis[1].taps * axis[2].taps), tap / axis[2].taps % axis[1].taps,
                           tap % axis[2].taps};
  ReachedOutputs inside[3];
  int64_t offset = 0;
  for (int a = 0; a < 3; ++a) {
    const int64_t own = axis[a].offset(taps[a]);
    inside[a] = reachedOutputs(axis[a].count, axis[a].sourceExtent, axis[a].sourceStep, own);
    offset = offset * sourceExtent_[a] + own;
  }
  std::fill_n(block.sources, block.tiles * kTile, nullptr);
  for (int64_t tile = 0; tile < block.tiles; ++tile) block.own[tile].reached = false;
  for (int64_t i = 0; i < block.voxels; ++i) {
    const Block::Place& place = block.places[i];
    bool reached = true;
    for (int a = 0; a < 3; ++a)
      reached = reached && place.at[a] >= inside[a].first && place.at[a] < inside[a].last;
    if (!reached) continue;
    block.sources[i] = source + (place.source + offset) * sourceVoxel_;
    block.own[i / kTile].reached = true;
  }
}

// The product of one tap for a chunk of the reduced channels. Tiles that the tap reaches go in pairs; a lone
// one goes with sums that nobody reads.
void AmxConvolution::addTap(const SourceNorm* norm, const char* panel, int64_t chunk,
                            const Block& block) const {
  const int64_t first = chunk * kChunkSteps * kAmxDepth;
  const int64_t floats = std::min(reduced_ - first, stepsOf(chunk) * kAmxDepth);
  SourceNorm own;
  if (norm) own = {norm->mean + first, norm->scale + first, norm->shift + first};
  AmxProduct product;
  product.left = block.panel;
  product.steps = stepsOf(chunk);
  int64_t next = 0;
  const auto nextReached = [&] {
    while (next < block.tiles && !block.own[next].reached) ++next;
    return next < block.tiles ? next++ : block.tiles;
  };
  for (int64_t tile; (tile = nextReached()) < block.tiles;) {
    const int64_t pair[2] = {tile, nextReached()};
    const float* rows[kAmxRows];
    for (int64_t i = 0; i < kAmxRows; ++i) {
      const int64_t of = pair[i / kTile];
      const float* const row = of < block.tiles ? block.sources[of * kTile + i % kTile] : nullptr;
      rows[i] = row ? row + first : nullptr;
    }
    kernels_.splitRows(block.panel, rows, floats, norm ? &own : nullptr);
    product.right = panel;
    for (int64_t column = 0; column < block.columns; ++column) {
      for (int i = 0; i < 2; ++i) {
        const Block::Tile& sums = block.own[pair[i]];
        product.sums[i] = {sums.sums + column * sums.columnStride, sums.stride, !sums.begun};
      }
      kernels_.multiply(product);
      product.right += product.steps * kAmxStepBytes;
    }
    block.own[pair[0]].begun = true;
    if (pair[1] < block.tiles) block.own[pair[1]].begun = true;
  }
}

// Sums that do not begin at zero begin with the bias, with what is to be added to, or both.
void AmxConvolution::begin(const Block& block, const float* bias, const float* output) const {
  if (!bias && !problem_.adds) return;
  const int64_t firstChannel = block.firstColumn * kAmxColumns;
  const int64_t channels = std::min(block.columns * kAmxColumns, produced_ - firstChannel);
  for (int64_t i = 0; i < block.tiles * kTile; ++i) {
    Block::Tile& tile = block.own[i / kTile];
    tile.begun = true;
    if (i >= block.voxels) continue;
    const float* const from = output + block.places[i].output * outputVoxel_ + firstChannel;
    for (int64_t c = 0; c < channels; ++c) {
      float* const to =
          tile.sums + i % kTile * tile.stride + c / kAmxColumns * tile.columnStride + c % kAmxColumns;
      *to = (bias ? bias[firstChannel + c] : 0.0f) + (problem_.adds ? from[c] : 0.0f);
    }
  }
}

void AmxConvolution::store(const Block& block, float* output) const {
  for (int64_t i = 0; i < block.voxels; ++i) {
    const Block::Tile& tile = block.own[i / kTile];
    if (tile.inOutput && tile.begun) continue;
    float* const to = output + block.places[i].output * outputVoxel_ + block.firstColumn * kAmxColumns;
    for (int64_t column = 0; column < block.columns; ++column) {
      const int64_t channels = std::min(kAmxColumns, produced_ - (block.firstColumn + column) * kAmxColumns);
      const float* const from = tile.sums + i % kTile * tile.stride + column * tile.columnStride;
      if (!tile.begun) {
        std::fill_n(to + column * kAmxColumns, channels, 0.0f);
      } else {
        std::copy_n(from, channels, to + column * kAmxColumns);
      }
    }
  }
}

}  // namespace voxgrad::cpu
