// The gather in one pass: every tile of output voxels sums all taps before it is stored.
#include "../core/thread_pool.h"
#include "conv3d_gather.h"

namespace voxgrad::cpu {

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
  tile.ahead = mostGroups * tiling.voxels * tile.sourceStride;
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

}  // namespace voxgrad::cpu
