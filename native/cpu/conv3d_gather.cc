#include "conv3d_gather.h"

#include "../core/thread_pool.h"

namespace voxgrad::cpu {
Gather::Gather(const Conv3dProblem& p, bool inputGradient, int64_t biasChannels)
    : biasChannels_(biasChannels), problem_(p), kernels_(conv3dKernels()), inputGradient_(inputGradient) {
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
  perTap_ = paysPerTap();

  forEachPhase([&](const Phase& phase) {
    packedFloats_ = phase.packed + problem_.groups * vectors_ * floatsPerVector(phase);
    const GatherAxis& axis = phase.axis[2];
    if (perTap_ || phase.rowTaps * axis.taps == 0) return;
    padLeft_ = std::max(padLeft_, -axis.minSource());
    padRight_ = std::max(padRight_, axis.maxSource() - (sourceExtent_[2] - 1));
    copies_ = copies_ || phase.run % reduction_ != 0;
  });
  copies_ = copies_ || padLeft_ > 0 || padRight_ > 0;
  if (!copies_) padLeft_ = padRight_ = 0;
  chooseEdges();
}

void Gather::chooseEdges() {
  const bool onePhase = !inputGradient_ || problem_.stride[0] * problem_.stride[1] * problem_.stride[2] == 1;
  if (!copies_ || !onePhase) return;
  const Phase phase = makePhase({0, 0, 0});
  const GatherAxis& axis = phase.axis[2];
  if (phase.rowTaps * axis.taps == 0) return;
  const Tiling tiling = tilingOf(phase);
  const int64_t voxels = tiling.voxels, groups = tiling.groupsPerRow;
  const int64_t overread = phase.run % reduction_ != 0 ? 1 : 0;
  const int64_t groupReach = (voxels - 1) * axis.sourceStep + axis.offset(axis.taps - 1);
  const bool innerInside = voxels * axis.sourceStep + axis.minSource() >= 0 &&
                           (groups - 2) * voxels * axis.sourceStep + groupReach + overread < sourceExtent_[2];
  edgeVoxels_ = groupReach - axis.minSource() + 1;
  edgeOrigin_[0] = axis.minSource();
  edgeOrigin_[1] = (axis.count - voxels) * axis.sourceStep + axis.minSource();
  const bool edgesInside = edgeOrigin_[0] + edgeVoxels_ > 0 && edgeOrigin_[1] < sourceExtent_[2];
  if (groups < 4 || !innerInside || !edgesInside || edgeVoxels_ > sourceExtent_[2]) return;
  edges_ = true;
  copies_ = false;
  padLeft_ = padRight_ = 0;
}

void Gather::pack(const float* w, float* packed) const {
  forEachPhase([&](const Phase& phase) { packPhase(phase, w, packed + phase.packed); });
}

template <typename Visit>
void Gather::forEachPhase(Visit visit) const {
  int64_t phases[3] = {1, 1, 1}, packed = 0;
  for (int axis = 0; axis < 3 && inputGradient_; ++axis) {
    phases[axis] = std::min(problem_.stride[axis], outputExtent_[axis]);
  }
  for (int64_t d = 0; d < phases[0]; ++d) {
    for (int64_t h = 0; h < phases[1]; ++h) {
      for (int64_t w = 0; w < phases[2]; ++w) {
        Phase phase = makePhase({d, h, w});
        phase.packed = packed;
        packed += problem_.groups * vectors_ * floatsPerVector(phase);
        visit(phase);
      }
    }
  }
}

Gather::Phase Gather::makePhase(const int64_t (&at)[3]) const {
  Phase phase;
  for (int a = 0; a < 3; ++a) {
    const int64_t stride = problem_.stride[a], pad = problem_.pad[a], dilation = problem_.dilation[a];
    phase.axis[a] =
        inputGradient_
            ? gradientAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad, dilation, at[a])
            : forwardAxis(sourceExtent_[a], kernel_[a], outputExtent_[a], stride, pad, dilation);
  }
  phase.rowTaps = phase.axis[0].taps * phase.axis[1].taps;
  const GatherAxis& w = phase.axis[2];
  // An odd run of channels pairs its last one with a float of the next voxel, against a zero weight.
  phase.shared = w.taps == 3 && w.offsetStep == 1 && w.sourceStep == 1 && w.count >= 4 && vectors_ == 1 &&
                 (reduction_ == 1 || reduced_ % 2 == 0);
  const bool oneRun = phase.shared || w.taps <= 1 || (w.offsetStep == 1 && problem_.groups == 1 && !perTap_);
  phase.segments = oneRun ? std::min<int64_t>(w.taps, 1) : w.taps;
  phase.run = oneRun && !phase.shared ? w.taps * reduced_ : reduced_;
  phase.steps = divideUp(phase.run, reduction_);
  phase.packed = 0;
  return phase;
}

int64_t Gather::floatsPerVector(const Phase& phase) const {
  return phase.rowTaps * phase.segments * phase.steps * phase.tapsPerStep() * kernels_.lanes;
}

size_t Gather::workspace() const {
  WorkspaceCursor cursor(nullptr);
  cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  cursor.floats(paddedRow() + kSlack);
  if (copies_) cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
  if (edges_)
    cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * 2 * edgeVoxels_ * sourceChannels_ +
                  kSlack);
  return cursor.used();
}

void Gather::run(const float* source, const float* packed, const float* bias, float* output,
                 void* workspace) const {
  WorkspaceCursor cursor(workspace);
  float* const packedBias = cursor.floats(problem_.groups * vectors_ * kernels_.lanes);
  float* const zeroRow = cursor.floats(paddedRow() + kSlack);
  packBias(bias, packedBias);
  std::fill_n(zeroRow, paddedRow() + kSlack, 0.0f);
  if (copies_) {
    float* const padded =
        cursor.floats(problem_.N * sourceExtent_[0] * sourceExtent_[1] * paddedRow() + kSlack);
    padSource(source, padded);
    source = padded;
  }
  float* edges = nullptr;
  if (edges_) {
    edges = cursor.floats(
        problem_.N * sourceExtent_[0] * sourceExtent_[1] * 2 * edgeVoxels_ * sourceChannels_ + kSlack);
    copyEdges(source, edges);
  }
  forEachPhase([&](const Phase& phase) {
    const Buffers buffers{source, edges, zeroRow, packed + phase.packed, packedBias, output};
    perTap_ ? runTaps(phase, buffers) : runPhase(phase, buffers);
  });
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
    const double repeated =
        static_cast<double>(divideUp(count, voxels) * voxels) / static_cast<double>(count);
    const double cost = repeated * std::max(1.0, (tile + vectors) / (tile * vectors));
    if (cost <= bestCost) {
      bestCost = cost;
      best = size;
    }
  }
  return best;
}

Gather::Tiling Gather::tilingOf(const Phase& phase) const {
  Tiling tiling;
  const int vectors = vectors_ > 1 ? 2 : 1;
  const int64_t count = phase.axis[2].count;
  tiling.size = phase.shared ? 2 : groupSize(count, vectors);
  tiling.voxels = kGroupSizes[tiling.size];
  tiling.groupsPerRow = divideUp(count, tiling.voxels);
  const int64_t rowsPerTile = kernels_.maxGroups[vectors - 1][tiling.size] / tiling.groupsPerRow;
  // Short rows share a tile. Rows at the same place of different samples skip the same taps, so they are
  // neighbours then; long rows follow memory.
  tiling.sampleInner = rowsPerTile > 1;
  tiling.rows = problem_.N * phase.axis[0].count * phase.axis[1].count;
  tiling.rowsPerTask = divideUp(tiling.rows, 256);
  if (rowsPerTile > 1) tiling.rowsPerTask = divideUp(tiling.rowsPerTask, rowsPerTile) * rowsPerTile;
  return tiling;
}

void Gather::runPhase(const Phase& phase, const Buffers& buffers) const {
  const Tiling tiling = tilingOf(phase);
  const int64_t columns = problem_.groups * divideUp(vectors_, kMaxVectors);
  const int64_t rowTasks = divideUp(tiling.rows, tiling.rowsPerTask);
  const int64_t columnTasks = rowTasks < 64 ? columns : 1;
  parallelFor(rowTasks * columnTasks, [&](int64_t task) {
    const int64_t firstRow = task % rowTasks * tiling.rowsPerTask;
    const int64_t lastRow = std::min(tiling.rows, firstRow + tiling.rowsPerTask);
    if (columnTasks > 1) return runColumn(phase, tiling, buffers, task / rowTasks, firstRow, lastRow);
    for (int64_t column = 0; column < columns; ++column) {
      runColumn(phase, tiling, buffers, column, firstRow, lastRow);
    }
  });
}

// A column is the block of output channels, of one convolution group, that a tile has registers for.
void Gather::runColumn(const Phase& phase, const Tiling& tiling, const Buffers& buffers, int64_t column,
                       int64_t firstRow, int64_t lastRow) const {
  const GatherAxis& axisW = phase.axis[2];
  const int64_t blocks = divideUp(vectors_, kMaxVectors);
  const int64_t group = column / blocks, block = column % blocks;
  const int64_t firstVector = group * vectors_ + block * kMaxVectors;
  const int64_t vectors = std::min<int64_t>(kMaxVectors, vectors_ - block * kMaxVectors);
  const int64_t firstChannel = block * kMaxVectors * kernels_.lanes;
  const int64_t mostGroups = kernels_.maxGroups[vectors - 1][tiling.size];
  const GatherKernel* const kernels = phase.shared
                                          ? kernels_.gatherShared[reduction_ - 1]
                                          : kernels_.gather[reduction_ - 1][vectors - 1][tiling.size];

  // A row offers up to three sources: the row itself and its two edges.
  const int64_t slots = edges_ ? 3 : 1;
  const int64_t segments = phase.rowTaps * phase.segments;
  const float** const tileSources =
      threadScratch<const float*>(static_cast<size_t>(segments * (kMaxGroups * slots + 1)));
  const float** const tileWeights = tileSources + segments * kMaxGroups * slots;
  int64_t* const sourceRows = threadScratch<int64_t>(static_cast<size_t>(phase.rowTaps * kMaxGroups));
  float *outputs[kMaxGroups], *rowOutputs[kMaxGroups];
  int64_t rows[kMaxGroups], starts[kMaxGroups], offsets[kMaxGroups];

  GatherTile tile;
  tile.sources = tileSources;
  tile.weights = tileWeights;
  tile.rows = rows;
  tile.offsets = offsets;
  tile.steps = phase.steps;
  tile.sourceStride = axisW.sourceStep * sourceChannels_;
  tile.outputs = outputs;
  tile.outputStride = axisW.outputStep * outputChannels_;
  tile.bias = buffers.bias + firstVector * kernels_.lanes;
  tile.channels = std::min<int64_t>(produced_ - firstChannel, vectors * kernels_.lanes);

  const float* const weights = buffers.packed + firstVector * floatsPerVector(phase);
  const int64_t segmentFloats = phase.steps * phase.tapsPerStep() * vectors * kernels_.lanes;
  const int64_t rowFloats = paddedRow(), edgeFloats = edgeVoxels_ * sourceChannels_;
  int64_t unitRows = 0;
  // Lists the segments that some voxel in [lowest, highest] of the unit's rows finds inside the source.
  const auto listSegments = [&](int64_t lowest, int64_t highest) {
    tile.segments = 0;
    for (int64_t rowTap = 0; rowTap < phase.rowTaps; ++rowTap) {
      const int64_t* const from = sourceRows + rowTap * kMaxGroups;
      bool inside = false;
      for (int64_t row = 0; row < unitRows; ++row) inside = inside || from[row] >= 0;
      if (!inside) continue;
      for (int64_t s = 0; s < phase.segments; ++s) {
        const int64_t tap = axisW.offset(s);
        if (phase.segments > 1 &&
            (highest * axisW.sourceStep + tap < 0 || lowest * axisW.sourceStep + tap >= sourceExtent_[2])) {
          continue;
        }
        const int64_t tapFloats = tap * sourceChannels_, inEdge = (tap - edgeOrigin_[0]) * sourceChannels_;
        const float** to = tileSources + tile.segments * tile.sourceRows;
        for (int64_t row = 0; row < unitRows; ++row) {
          const bool outside = from[row] < 0;
          *to++ = (outside ? buffers.zeroRow : buffers.source + from[row] * rowFloats) + tapFloats;
          for (int64_t edge = 0; edge + 1 < slots; ++edge) {
            *to++ =
                (outside ? buffers.zeroRow : buffers.edges + (from[row] * 2 + edge) * edgeFloats) + inEdge;
          }
        }
        tileWeights[tile.segments++] = weights + (rowTap * phase.segments + s) * segmentFloats;
      }
    }
  };

  // A unit is one row, cut into tiles of about equal size, or as many short rows as one tile holds.
  const int64_t mostRows = std::max<int64_t>(1, mostGroups / tiling.groupsPerRow);
  for (int64_t unit = firstRow; unit < lastRow; unit += mostRows) {
    unitRows = std::min(mostRows, lastRow - unit);
    tile.sourceRows = unitRows * slots;
    for (int64_t row = 0; row < unitRows; ++row) {
      const int64_t outputRow = placeRow(phase, tiling, unit + row, sourceRows + row);
      rowOutputs[row] = buffers.output + group * produced_ + firstChannel + outputRow * outputChannels_;
    }
    if (phase.segments <= 1) listSegments(0, axisW.count - 1);
    const int64_t groups = unitRows * tiling.groupsPerRow, tiles = divideUp(groups, mostGroups);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t firstGroup = groups * t / tiles, used = groups * (t + 1) / tiles - firstGroup;
      for (int64_t g = 0, row = 0, inRow = firstGroup; g < used; ++g, ++inRow) {
        if (inRow == tiling.groupsPerRow) inRow = 0, ++row;
        const bool first = inRow == 0, last = inRow + 1 == tiling.groupsPerRow;
        rows[g] = row * slots + (!edges_ ? 0 : first ? 1 : last ? 2 : 0);
        starts[g] = std::min(inRow * tiling.voxels, axisW.count - tiling.voxels);
        outputs[g] = rowOutputs[row] + starts[g] * tile.outputStride;
        offsets[g] = group * reduced_;
        if (!edges_ || !(first || last))
          offsets[g] += (starts[g] * axisW.sourceStep + padLeft_) * sourceChannels_;
      }
      if (phase.segments > 1) {
        const bool oneRow = unitRows == 1;
        listSegments(oneRow ? starts[0] : 0, oneRow ? starts[used - 1] + tiling.voxels - 1 : axisW.count - 1);
      }
      kernels[used - 1](tile);
    }
  }
}

// Finds the source rows of the index-th row of a phase, sourceRows[rowTap * kMaxGroups] each (-1: outside),
// and returns the number of the first voxel of its output row.
int64_t Gather::placeRow(const Phase& phase, const Tiling& tiling, int64_t index, int64_t* sourceRows) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1];
  const int64_t plane = axisD.count * axisH.count;
  const int64_t n = tiling.sampleInner ? index % problem_.N : index / plane;
  const int64_t place = tiling.sampleInner ? index / problem_.N : index % plane;
  const int64_t z = place / axisH.count, p = place % axisH.count;
  for (int64_t i = 0; i < axisD.taps; ++i) {
    const int64_t d = z * axisD.sourceStep + axisD.offset(i);
    for (int64_t j = 0; j < axisH.taps; ++j, sourceRows += kMaxGroups) {
      const int64_t h = p * axisH.sourceStep + axisH.offset(j);
      const bool inside = d >= 0 && d < sourceExtent_[0] && h >= 0 && h < sourceExtent_[1];
      *sourceRows = inside ? (n * sourceExtent_[0] + d) * sourceExtent_[1] + h : -1;
    }
  }
  return outputRowOf(phase, n, z, p);
}

// The number of the first voxel of that row of the phase.
int64_t Gather::outputRowOf(const Phase& phase, int64_t n, int64_t z, int64_t p) const {
  const GatherAxis &axisD = phase.axis[0], &axisH = phase.axis[1];
  const int64_t row = (n * outputExtent_[0] + axisD.first + z * axisD.outputStep) * outputExtent_[1] +
                      axisH.first + p * axisH.outputStep;
  return row * outputExtent_[2] + phase.axis[2].first;
}

}  // namespace voxgrad::cpu
