#include "conv3d_gather.h"

#include <cstring>

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
namespace {

// Floats that a kernel may read behind the end of a row.
constexpr int64_t kSlack = 16;

int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

struct Gather::Phase {
  GatherAxis axis[3];
  int64_t rowTaps;   // taps in depth times taps in height
  int64_t segments;  // per row tap: 1 when the taps along W read one run of floats, else one per tap
  int64_t run;       // source floats in a segment
  int64_t steps;     // reduction steps in a segment
};

Gather::Gather(const Conv3dProblem& p, bool inputGradient)
    : problem_(p), kernels_(conv3dKernels()), inputGradient_(inputGradient) {
  const int64_t xExtent[3] = {p.D, p.H, p.W}, yExtent[3] = {p.Z, p.P, p.Q}, kernel[3] = {p.R, p.S, p.T};
  for (int axis = 0; axis < 3; ++axis) {
    sourceExtent_[axis] = inputGradient ? yExtent[axis] : xExtent[axis];
    outputExtent_[axis] = inputGradient ? xExtent[axis] : yExtent[axis];
    kernel_[axis] = kernel[axis];
  }
  const int64_t cPerGroup = p.C / p.groups, kPerGroup = p.K / p.groups, filter = p.taps() * cPerGroup;
  sourceChannels_ = inputGradient ? p.K : p.C;
  outputChannels_ = inputGradient ? p.C : p.K;
  reduced_ = inputGradient ? kPerGroup : cPerGroup;
  produced_ = inputGradient ? cPerGroup : kPerGroup;
  outputStride_ = inputGradient ? 1 : filter;
  reducedStride_ = inputGradient ? filter : 1;
  reduction_ = produced_ * 2 <= kernels_.lanes ? 2 : 1;
  vectors_ = divideUp(produced_ * reduction_, kernels_.lanes);

  forEachPhase([&](const Phase& phase) {
    largestPack_ = std::max(largestPack_, packedFloats(phase));
    const GatherAxis& axis = phase.axis[2];
    if (phase.rowTaps * axis.taps == 0) return;
    padLeft_ = std::max(padLeft_, -axis.minSource());
    padRight_ = std::max(padRight_, axis.maxSource() - (sourceExtent_[2] - 1));
    copies_ = copies_ || phase.run % reduction_ != 0;
  });
  copies_ = copies_ || padLeft_ > 0 || padRight_ > 0;
}

template <typename Visit>
void Gather::forEachPhase(Visit visit) const {
  int64_t phases[3] = {1, 1, 1};
  for (int axis = 0; axis < 3 && inputGradient_; ++axis) {
    phases[axis] = std::min(problem_.stride[axis], outputExtent_[axis]);
  }
  for (int64_t d = 0; d < phases[0]; ++d) {
    for (int64_t h = 0; h < phases[1]; ++h) {
      for (int64_t w = 0; w < phases[2]; ++w) visit(makePhase({d, h, w}));
    }
  }
}

Gather::Phase Gather::makePhase(const int64_t (&at)[3]) const {
  Phase phase;
  for (int a = 0; a < 3; ++a) {
    const int64_t stride = problem_.stride[a], pad = problem_.pad[a], dilation = problem_.dilation[a];
    phase.axis[a] = inputGradient_ ? gradientAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad,
                                                  dilation, at[a])
                                   : forwardAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad,
                                                 dilation);
  }
  phase.rowTaps = phase.axis[0].taps * phase.axis[1].taps;
  const GatherAxis& w = phase.axis[2];
  const bool oneRun = w.taps <= 1 || (w.offsetStep == 1 && problem_.groups == 1);
  phase.segments = oneRun ? std::min<int64_t>(w.taps, 1) : w.taps;
  phase.run = oneRun ? w.taps * reduced_ : reduced_;
  phase.steps = divideUp(phase.run, reduction_);
  return phase;
}

int64_t Gather::packedFloats(const Phase& phase) const {
  return problem_.groups * vectors_ * phase.rowTaps * phase.segments * phase.steps * kernels_.lanes;
}

size_t Gather::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  cursor.floats(paddedRow() + kSlack);
  cursor.floats(largestPack_);
  if (copies_) cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
  return cursor.used();
}

void Gather::run(const float* source, const float* w, const float* bias, float* output, void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const packedBias = cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  float* const zeroRow = cursor.floats(paddedRow() + kSlack);
  float* const packed = cursor.floats(largestPack_);
  packBias(bias, packedBias);
  std::fill_n(zeroRow, paddedRow() + kSlack, 0.0f);
  if (copies_) {
    float* const padded =
        cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
    padSource(source, padded);
    source = padded;
  }
  forEachPhase([&](const Phase& phase) {
    packWeights(phase, w, packed);
    runPhase(phase, source, zeroRow, packed, packedBias, output);
  });
}

void Gather::padSource(const float* source, float* padded) const {
  const int64_t rows = problem_.N * sourceExtent_[0] * sourceExtent_[1];
  const int64_t row = sourceExtent_[2] * sourceChannels_, left = padLeft_ * sourceChannels_;
  const int64_t paddedRowFloats = paddedRow();
  const int64_t rowsPerTask = std::max<int64_t>(1, 16384 / paddedRowFloats);
  parallelFor(divideUp(rows, rowsPerTask), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * rowsPerTask);
    for (int64_t r = task * rowsPerTask; r < end; ++r) {
      float* const to = padded + r * paddedRowFloats;
      std::fill_n(to, left, 0.0f);
      std::memcpy(to + left, source + r * row, static_cast<size_t>(row) * sizeof(float));
      std::fill(to + left + row, to + paddedRowFloats, 0.0f);
    }
  });
  std::fill_n(padded + rows * paddedRowFloats, kSlack, 0.0f);
}

void Gather::packBias(const float* bias, float* packed) const {
  const int64_t perGroup = vectors_ * kernels_.lanes;
  std::fill_n(packed, problem_.groups * perGroup, 0.0f);
  if (!bias) return;
  // With two lanes per channel the kernel has summed the pairs of two voxels: one half of the vector each.
  const int64_t copies = reduction_, half = kernels_.lanes / 2;
  for (int64_t group = 0; group < problem_.groups; ++group) {
    for (int64_t copy = 0; copy < copies; ++copy) {
      std::copy_n(bias + group * produced_, produced_, packed + group * perGroup + copy * half);
    }
  }
}

void Gather::packWeights(const Phase& phase, const float* w, float* packed) const {
  const int64_t blocks = divideUp(vectors_, kMaxVectors);
  const int64_t perVector = packedFloats(phase) / (problem_.groups * vectors_);
  const auto packTask = [&](int64_t task) {
    const int64_t group = task / blocks, block = task % blocks;
    packBlock(phase, w, group, block, packed + (group * vectors_ + block * kMaxVectors) * perVector);
  };
  if (packedFloats(phase) > 65536) {
    parallelFor(problem_.groups * blocks, packTask);
  } else {
    for (int64_t task = 0; task < problem_.groups * blocks; ++task) packTask(task);
  }
}

// Layout [rowTaps][segments][steps][vectors of the block][lanes].
void Gather::packBlock(const Phase& phase, const float* w, int64_t group, int64_t block, float* packed) const {
  const int64_t cPerGroup = problem_.C / problem_.groups, kPerGroup = problem_.K / problem_.groups;
  const int64_t lanes = kernels_.lanes;
  const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
  const int64_t stepFloats = vectors * lanes, segmentFloats = phase.steps * stepFloats;
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  const float* const filters = w + group * kPerGroup * problem_.taps() * cPerGroup;
  for (int64_t rowTap = 0; rowTap < phase.rowTaps; ++rowTap) {
    const int64_t r = axisD.tap(rowTap / axisH.taps), s = axisH.tap(rowTap % axisH.taps);
    for (int64_t j = 0; j < axisW.taps; ++j) {
      const float* const tap = filters + ((r * kernel_[1] + s) * kernel_[2] + axisW.tap(j)) * cPerGroup;
      const int64_t segment = phase.segments == 1 ? 0 : j;
      const int64_t start = phase.segments == 1 ? j * reduced_ : 0;  // floats into the segment's run
      float* const to = packed + (rowTap * phase.segments + segment) * segmentFloats;
      if (reduction_ == 2) {
        if (start == 0) std::fill_n(to, segmentFloats, 0.0f);
        for (int64_t c = 0; c < reduced_; ++c) {
          const int64_t at = start + c;
          for (int64_t k = 0; k < produced_; ++k) {
            to[at / 2 * lanes + 2 * k + at % 2] = tap[k * outputStride_ + c * reducedStride_];
          }
        }
        continue;
      }
      for (int64_t v = 0; v < vectors; ++v) {
        const int64_t first = (block * kMaxVectors + v) * lanes;
        const int64_t outputs = std::min(lanes, produced_ - first);
        float* const column = to + start * stepFloats + v * lanes;
        if (reducedStride_ == 1) {
          kernels_.packTransposed(column, stepFloats, tap + first * outputStride_, outputStride_, outputs,
                                  reduced_);
          continue;
        }
        for (int64_t c = 0; c < reduced_; ++c) {
          std::copy_n(tap + first + c * reducedStride_, outputs, column + c * stepFloats);
          std::fill_n(column + c * stepFloats + outputs, lanes - outputs, 0.0f);
        }
      }
    }
  }
}

// The index of the group size that wastes least: voxels computed twice where a row is no multiple of the
// group, and loads that the multiply-adds of a tile cannot hide.
int64_t Gather::groupSize(int64_t count, int vectors) const {
  int64_t best = 0;
  double bestCost = 1e30;
  for (int64_t size = 0; size < 3; ++size) {
    const int64_t voxels = kGroupSizes[size];
    if (voxels > count) continue;
    const double tile = static_cast<double>(voxels * kernels_.maxGroups[vectors - 1][size]);
    const double repeated = static_cast<double>(divideUp(count, voxels) * voxels) / static_cast<double>(count);
    const double cost = repeated * std::max(1.0, (tile + vectors) / (tile * vectors));
    if (cost <= bestCost) {
      bestCost = cost;
      best = size;
    }
  }
  return best;
}

void Gather::runPhase(const Phase& phase, const float* source, const float* zeroRow, const float* packed,
                      const float* bias, float* output) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1], &axisW = phase.axis[2];
  const int64_t samples = problem_.N, rows = samples * axisD.count * axisH.count;
  const int64_t blocks = divideUp(vectors_, kMaxVectors), columns = problem_.groups * blocks;
  const int64_t rowFloats = copies_ ? paddedRow() : sourceExtent_[2] * sourceChannels_;
  const int64_t left = copies_ ? padLeft_ : 0;
  const int64_t perVector = packedFloats(phase) / (problem_.groups * vectors_);
  const int64_t size = groupSize(axisW.count, vectors_ > 1 ? 2 : 1);
  const int64_t voxels = kGroupSizes[size], groupsPerRow = divideUp(axisW.count, voxels);
  const int64_t mostGroups = kernels_.maxGroups[vectors_ > 1 ? 1 : 0][size];
  // Short rows share a tile. Rows at the same place of different samples skip the same taps, so they are
  // neighbours then; long rows follow memory.
  const bool sampleInner = groupsPerRow < mostGroups;
  const int64_t rowsPerUnit = std::max<int64_t>(1, mostGroups / groupsPerRow);
  const int64_t rowsPerTask = divideUp(divideUp(rows, 256), rowsPerUnit) * rowsPerUnit;
  const int64_t rowTasks = divideUp(rows, rowsPerTask);
  const int64_t columnTasks = rowTasks < 64 ? columns : 1;

  parallelFor(rowTasks * columnTasks, [&](int64_t task) {
    const int64_t firstRow = task % rowTasks * rowsPerTask;
    const int64_t lastRow = std::min(rows, firstRow + rowsPerTask);
    const int64_t firstColumn = columnTasks == 1 ? 0 : task / rowTasks;
    const int64_t lastColumn = columnTasks == 1 ? columns : firstColumn + 1;
    const int64_t segments = phase.rowTaps * phase.segments;
    const float** const rowSources =
        threadScratch<const float*>(static_cast<size_t>((phase.rowTaps + segments) * kMaxGroups + segments));
    const float** const tileSources = rowSources + phase.rowTaps * kMaxGroups;
    const float** const tileWeights = tileSources + segments * kMaxGroups;

    for (int64_t column = firstColumn; column < lastColumn; ++column) {
      const int64_t group = column / blocks, block = column % blocks;
      const int64_t firstVector = group * vectors_ + block * kMaxVectors;
      const int vectors = static_cast<int>(std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors));
      const int64_t firstChannel = block * kMaxVectors * kernels_.lanes;
      const int64_t segmentFloats = phase.steps * vectors * kernels_.lanes;
      const float* const weights = packed + firstVector * perVector;
      const int64_t tileGroups = kernels_.maxGroups[vectors - 1][size];

      float* outputs[kMaxGroups];
      GatherTile tile;
      tile.sources = tileSources;
      tile.weights = tileWeights;
      tile.steps = phase.steps;
      tile.sourceStride = axisW.sourceStep * sourceChannels_;
      tile.outputs = outputs;
      tile.outputStride = axisW.outputStep * outputChannels_;
      tile.bias = bias + firstVector * kernels_.lanes;
      tile.channels = std::min<int64_t>(produced_ - firstChannel, vectors * kernels_.lanes);

      const int64_t unitRows = std::max<int64_t>(1, std::min<int64_t>(tileGroups / groupsPerRow, kMaxGroups));
      for (int64_t unit = firstRow; unit < lastRow; unit += unitRows) {
        const int64_t count = std::min(unitRows, lastRow - unit);
        float* rowOutputs[kMaxGroups];
        for (int64_t row = 0; row < count; ++row) {
          const int64_t index = unit + row, plane = axisD.count * axisH.count;
          const int64_t n = sampleInner ? index % samples : index / plane;
          const int64_t place = sampleInner ? index / samples : index % plane;
          const int64_t z = place / axisH.count, p = place % axisH.count;
          rowOutputs[row] = output + group * produced_ + firstChannel +
                            (((n * outputExtent_[0] + axisD.first + z * axisD.outputStep) * outputExtent_[1] +
                              axisH.first + p * axisH.outputStep) *
                                 outputExtent_[2] +
                             axisW.first) *
                                outputChannels_;
          for (int64_t i = 0; i < axisD.taps; ++i) {
            const int64_t d = z * axisD.sourceStep + axisD.offset(i);
            for (int64_t j = 0; j < axisH.taps; ++j) {
              const int64_t h = p * axisH.sourceStep + axisH.offset(j);
              const bool inside = d >= 0 && d < sourceExtent_[0] && h >= 0 && h < sourceExtent_[1];
              rowSources[(i * axisH.taps + j) * kMaxGroups + row] =
                  inside ? source + ((n * sourceExtent_[0] + d) * sourceExtent_[1] + h) * rowFloats : zeroRow;
            }
          }
        }

        const int64_t groups = count * groupsPerRow, tiles = divideUp(groups, tileGroups);
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t firstGroup = groups * t / tiles, lastGroup = groups * (t + 1) / tiles;
          const int64_t used = lastGroup - firstGroup;
          int64_t row[kMaxGroups], start[kMaxGroups], offset[kMaxGroups];
          int64_t lowest = axisW.count, highest = 0;
          for (int64_t g = 0; g < used; ++g) {
            row[g] = (firstGroup + g) / groupsPerRow;
            start[g] = std::min((firstGroup + g) % groupsPerRow * voxels, axisW.count - voxels);
            outputs[g] = rowOutputs[row[g]] + start[g] * tile.outputStride;
            offset[g] = (start[g] * axisW.sourceStep + left) * sourceChannels_ + group * reduced_;
            lowest = std::min(lowest, start[g]);
            highest = std::max(highest, start[g] + voxels - 1);
          }
          tile.segments = 0;
          for (int64_t rowTap = 0; rowTap < phase.rowTaps; ++rowTap) {
            const float* const* const rowSource = rowSources + rowTap * kMaxGroups;
            bool inside = false;
            for (int64_t g = 0; g < used; ++g) inside = inside || rowSource[row[g]] != zeroRow;
            if (!inside) continue;
            for (int64_t s = 0; s < phase.segments; ++s) {
              const int64_t tapOffset = axisW.offset(s);
              if (phase.segments > 1 && (highest * axisW.sourceStep + tapOffset < 0 ||
                                         lowest * axisW.sourceStep + tapOffset >= sourceExtent_[2])) {
                continue;
              }
              for (int64_t g = 0; g < used; ++g) {
                tileSources[tile.segments * used + g] = rowSource[row[g]] + offset[g] + tapOffset * sourceChannels_;
              }
              tileWeights[tile.segments++] = weights + (rowTap * phase.segments + s) * segmentFloats;
            }
          }
          kernels_.gather[reduction_ - 1][vectors - 1][size][used - 1](tile);
        }
      }
    }
  });
}

}  // namespace voxgrad::cpu
