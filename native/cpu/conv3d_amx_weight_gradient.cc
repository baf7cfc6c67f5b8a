#include "conv3d_amx_weight_gradient.h"

#include "../core/thread_pool.h"
#include "grid_cursor.h"

namespace voxgrad::cpu {
namespace {

constexpr int64_t kChunkVoxels = 128, kChunkSteps = kChunkVoxels / kAmxDepth;
constexpr int64_t kPartBlocks = 8;  // 256 channels
constexpr int64_t kBlockFloats = kAmxRows * kAmxColumns;

}  // namespace

AmxWeightGradient::AmxWeightGradient(const Conv3dProblem& p) : problem_(p), kernels_(amxKernels()) {
  const int64_t outputs = divideUp(p.K, kAmxRows), inputs = divideUp(p.C, kAmxColumns);
  outputParts_ = divideUp(outputs, kPartBlocks);
  inputParts_ = divideUp(inputs, kPartBlocks);
  outputBlocks_ = divideUp(outputs, outputParts_);
  inputBlocks_ = divideUp(inputs, inputParts_);
  const int64_t voxels = p.N * p.Z * p.P * p.Q, chunks = divideUp(voxels, kChunkVoxels);
  inOneChunk_ = chunks == 1;
  constexpr int64_t kTasks = 12;
  slabs_ = std::min(chunks, divideUp(kTasks, tasks()));
}

size_t AmxWeightGradient::workspace() const {
  WorkspaceCursor cursor(nullptr);
  if (!inOneChunk_) cursor.floats(slabs_ * tasks() * sumFloats());
  return cursor.used();
}

AmxWeightGradient::Span AmxWeightGradient::spanOf(int axis, int64_t tap) const {
  const Conv3dProblem& p = problem_;
  const int64_t source[3] = {p.D, p.H, p.W}, output[3] = {p.Z, p.P, p.Q};
  const int64_t offset = tap * p.dilation[axis] - p.pad[axis], stride = p.stride[axis];
  const ReachedOutputs inside = reachedOutputs(output[axis], source[axis], stride, offset);
  return {inside.first, inside.last - inside.first, offset};
}

// Even parts of whole blocks.
AmxWeightGradient::Channels AmxWeightGradient::part(int64_t channels, int64_t parts, int64_t index) const {
  const int64_t blocks = divideUp(channels, kAmxRows);
  const int64_t first = blocks * index / parts * kAmxRows;
  return {first, std::min(channels, blocks * (index + 1) / parts * kAmxRows) - first};
}

AmxWeightGradient::Task AmxWeightGradient::taskOf(int64_t index) const {
  const Conv3dProblem& p = problem_;
  Task task;
  task.inputs = part(p.C, inputParts_, index % inputParts_);
  task.outputs = part(p.K, outputParts_, index / inputParts_ % outputParts_);
  task.tap = index / inputParts_ / outputParts_;
  const int64_t taps[3] = {task.tap / (p.S * p.T), task.tap / p.T % p.S, task.tap % p.T};
  task.voxels = p.N;
  for (int axis = 0; axis < 3; ++axis) {
    task.span[axis] = spanOf(axis, taps[axis]);
    task.voxels *= task.span[axis].count;
  }
  return task;
}

void AmxWeightGradient::run(const ConvolutionSource& x, const float* dy, float* dw, void* workspace) const {
  float* const sums = static_cast<float*>(workspace);
  parallelFor(tasks() * slabs_, [&](int64_t index) {
    sumTask(x, dy, taskOf(index % tasks()), index / tasks(),
            inOneChunk_ ? nullptr : sums + index * sumFloats(), dw);
  });
  if (!inOneChunk_) parallelFor(tasks(), [&](int64_t index) { addSlabs(index, sums, dw); });
}

void AmxWeightGradient::sumTask(const ConvolutionSource& x, const float* dy, const Task& task, int64_t slab,
                                float* sums, float* dw) const {
  const int64_t outputBlocks = task.outputs.blocks(), inputBlocks = task.inputs.blocks();
  constexpr int64_t kPanelLines = kChunkSteps * kAmxStepBytes / 64, kBlockLines = kBlockFloats / 16;
  Line* const lines =
      threadScratch<Line>(static_cast<size_t>((outputBlocks + inputBlocks) * kPanelLines + kBlockLines));
  Panels panels;
  panels.left = reinterpret_cast<char*>(lines + kBlockLines);
  panels.right = panels.left + outputBlocks * kPanelLines * 64;
  const int64_t begin = task.voxels * slab / slabs_, end = task.voxels * (slab + 1) / slabs_;
  kernels_.begin();
  // One chunk at least: without voxels it stores zeros.
  int64_t first = begin;
  do {
    fillPanels(x, dy, task, first, std::min(kChunkVoxels, end - first), panels);
    AmxProduct product;
    product.steps = panels.steps;
    for (int64_t i = 0; i < outputBlocks; ++i) {
      product.left = panels.left + i * panels.steps * kAmxStepBytes;
      for (int64_t j = 0; j < inputBlocks; ++j) {
        float* const own = inOneChunk_ ? lines->floats : sums + (i * inputBlocks + j) * kBlockFloats;
        product.right = panels.right + j * panels.steps * kAmxStepBytes;
        product.sums[0] = {own, kAmxColumns, first == begin};
        product.sums[1] = {own + kBlockFloats / 2, kAmxColumns, first == begin};
        // What is stored to next is on its way meanwhile.
        for (int64_t row = i * kAmxRows;
             inOneChunk_ && row < std::min((i + 1) * kAmxRows, task.outputs.count); ++row) {
          const float* const place = placeOf(task, row, j, dw);
          __builtin_prefetch(place, 1);
          __builtin_prefetch(place + kAmxColumns / 2, 1);
        }
        kernels_.multiply(product);
        if (inOneChunk_) store(task, i, j, own, dw);
      }
    }
    first += kChunkVoxels;
  } while (first < end);
  kernels_.end();
}

void AmxWeightGradient::fillPanels(const ConvolutionSource& x, const float* dy, const Task& task,
                                   int64_t firstVoxel, int64_t voxels, Panels& panels) const {
  const Conv3dProblem& p = problem_;
  const Span(&span)[3] = task.span;
  const float *sources[kChunkVoxels], *gradients[kChunkVoxels];
  panels.steps = divideUp(voxels, kAmxDepth);
  std::fill_n(sources, panels.steps * kAmxDepth, nullptr);
  std::fill_n(gradients, panels.steps * kAmxDepth, nullptr);
  if (voxels > 0) {
    GridCursor cursor(span[0].count, span[1].count, span[2].count, firstVoxel);
    const int64_t(&at)[3] = cursor.at;
    for (int64_t i = 0; i < voxels; ++i, cursor.advance()) {
      const int64_t z = span[0].first + at[0], y = span[1].first + at[1], q = span[2].first + at[2];
      const int64_t d = z * p.stride[0] + span[0].offset, h = y * p.stride[1] + span[1].offset,
                    w = q * p.stride[2] + span[2].offset;
      gradients[i] = dy + (((cursor.n * p.Z + z) * p.P + y) * p.Q + q) * p.yVoxel() + task.outputs.first;
      sources[i] = x.data + (((cursor.n * p.D + d) * p.H + h) * p.W + w) * p.xVoxel() + task.inputs.first;
    }
  }
  SourceNorm norm;
  if (x.norm) {
    const int64_t c = task.inputs.first;
    norm = {x.norm->mean + c, x.norm->scale + c, x.norm->shift + c};
  }
  const int64_t blockBytes = panels.steps * kAmxStepBytes;
  for (int64_t step = 0; step < panels.steps; ++step) {
    const int64_t at = step * kAmxStepBytes;
    kernels_.splitTransposed(panels.left + at, blockBytes, gradients + step * kAmxDepth, task.outputs.count);
    kernels_.splitColumns(panels.right + at, blockBytes, sources + step * kAmxDepth, task.inputs.count,
                          x.norm ? &norm : nullptr);
  }
}

// Of an output channel of the task, the first weight of a block of input channels.
float* AmxWeightGradient::placeOf(const Task& task, int64_t output, int64_t inputBlock, float* dw) const {
  const int64_t filter = (task.outputs.first + output) * problem_.taps() + task.tap;
  return dw + filter * problem_.C + task.inputs.first + inputBlock * kAmxColumns;
}

void AmxWeightGradient::store(const Task& task, int64_t outputBlock, int64_t inputBlock, const float* sums,
                              float* dw) const {
  const int64_t first = outputBlock * kAmxRows, end = std::min(first + kAmxRows, task.outputs.count);
  const int64_t inputs = std::min(kAmxColumns, task.inputs.count - inputBlock * kAmxColumns);
  for (int64_t i = first; i < end; ++i)
    std::copy_n(sums + (i - first) * kAmxColumns, inputs, placeOf(task, i, inputBlock, dw));
}

void AmxWeightGradient::addSlabs(int64_t index, float* sums, float* dw) const {
  const Task task = taskOf(index);
  const int64_t inputBlocks = task.inputs.blocks();
  for (int64_t block = 0; block < task.outputs.blocks() * inputBlocks; ++block) {
    float* const own = sums + index * sumFloats() + block * kBlockFloats;
    for (int64_t slab = 1; slab < slabs_; ++slab) {
      const float* const more = own + slab * tasks() * sumFloats();
      for (int64_t i = 0; i < kBlockFloats; ++i) own[i] += more[i];
    }
    store(task, block / inputBlocks, block % inputBlocks, own, dw);
  }
}

}  // namespace voxgrad::cpu
