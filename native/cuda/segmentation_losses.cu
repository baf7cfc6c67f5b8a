// Losses of a segmentation and their gradient in the logits by one launch: the sums over voxels, then, once
// all blocks have theirs, the slopes of the losses in these sums and what they make of each voxel. Blocks
// keep logits in shared memory from one to the other, as far as they have room. The logits are there already,
// or the first part computes them from what the network's last convolution reads: those that blocks cannot
// keep then lie in the place of their gradient until it is made, and no others are written.
#include "../core/segmentation_step.h"
#include "cooperative.h"
#include "kernels.h"
#include "ptx.h"
#include "segmentation_head.h"
#include "segmentation_sums.h"

namespace voxgrad::cuda {
namespace {

// What is launched by itself, in this order, where blocks cannot wait for each other.
enum Phase : int { addUp, finish, differentiate, phases };

struct Call {
  SegmentationShape shape;
  RowChunks all;
  Segmentation s;
  LossTerms terms;
  double* partial = nullptr;  // [samples, chunks, sums]
  float *sums = nullptr, *gradient = nullptr;
  SegmentationHead head = {};
  // Floats of shared memory in front of the slopes, of the head behind them, and of the logits of an item;
  // how many items a block keeps there, behind the head.
  int64_t slopesAt = 0, headFloats = 0, keptFloats = 0;
  int keptItems = 0;
  Phase first = addUp, last = differentiate;

  __host__ __device__ int64_t items() const { return shape.samples * all.chunks; }
  __host__ __device__ int count() const { return static_cast<int>(segmentationSums(shape.channels)); }
  __device__ float* slopes() const { return sharedMemory<float>() + slopesAt; }
  __device__ float* headWeights() const { return slopes() + (count() + 3) / 4 * 4; }
  // Where the block keeps the logits of its n-th item.
  __device__ float* kept(int n) const { return headWeights() + headFloats + n * keptFloats; }
};

// The voxels of an item, and where their logits are.
struct Item {
  int64_t sample, begin, end;
  Segmentation s;

  __device__ Item(const Call& call, int64_t item, int n) : sample(item / call.all.chunks), s(call.s) {
    const int64_t rows = call.all.rows, from = item % call.all.chunks * call.all.chunkRows;
    begin = sample * rows + from;
    end = sample * rows + (from + call.all.chunkRows < rows ? from + call.all.chunkRows : rows);
    if (n < call.keptItems) s.logits = call.kept(n) - begin * call.shape.channels;
  }
};

// Copies an item's logits to where the block keeps them.
__device__ void bringLogits(const Call& call, const Item& item, float* to) {
  const float* from = call.s.logits + item.begin * call.shape.channels;
  const auto floats = static_cast<int>((item.end - item.begin) * call.shape.channels);
  const bool wide = reinterpret_cast<uintptr_t>(from) % 16 == 0;
  const int chunks = wide ? floats / 4 : 0;
  for (int i = threadIdx.x; i < chunks; i += sumThreads) copyAsync<16>(to + 4 * i, from + 4 * i, true);
  for (int i = 4 * chunks + threadIdx.x; i < floats; i += sumThreads) copyAsync<4>(to + i, from + i, true);
  commitCopies();
  waitCopies<0>();
  __syncthreads();
}

// Where an item's logits come from: memory, or a head.
template <class R>
struct GivenLogits {
  static constexpr const char* name = "segmentationLosses";
  static int64_t sharedFloats(const SegmentationHead&) { return 0; }

  __device__ explicit GivenLogits(const Call&) {}
  __device__ StoredLogits of(const Call& call, const Item& item, int n) const {
    if (n < call.keptItems) bringLogits(call, item, call.kept(n));
    return {item.s.logits};
  }
};

template <class R, class T>
struct ComputedLogits {
  static constexpr const char* name = "headSegmentationLosses";
  static int64_t sharedFloats(const SegmentationHead& head) { return HeadLogits<R, T>::sharedFloats(head); }

  HeadLogits<R, T> logits;

  __device__ explicit ComputedLogits(const Call& call)
      : logits(call.head, static_cast<int>(call.shape.channels), call.headWeights()) {}
  __device__ HeadLogits<R, T> of(const Call& call, const Item& item, int n) const {
    HeadLogits<R, T> result = logits;
    result.logits = n < call.keptItems ? call.kept(n) - item.begin * call.shape.channels : call.gradient;
    return result;
  }
};

template <class R, class Source>
__device__ void addUpItems(const Call& call) {
  const Source source(call);
  int n = 0;
  for (int64_t at = blockIdx.x; at < call.items(); at += gridDim.x, n++) {
    const Item item(call, at, n);
    R own(static_cast<int>(call.shape.channels), item.sample);
    addVoxels(own, item.s, source.of(call, item, n), item.begin, item.end, call.partial + at * call.count());
    __syncthreads();
  }
}

__device__ inline void finishSums(const Call& call) {
  const int count = call.count();
  for (int64_t i = blockIdx.x; i < call.shape.samples * count; i += gridDim.x) {
    const double* partial = call.partial + i / count * call.all.chunks * count + i % count;
    double total[1] = {};
    for (int64_t chunk = threadIdx.x; chunk < call.all.chunks; chunk += sumThreads)
      total[0] += partial[chunk * count];
    addRowsOfBlock<1>(sumThreads, 1, total);
    if (threadIdx.x == 0) call.sums[i] = static_cast<float>(total[0]);
    __syncthreads();
  }
}

template <class R>
__device__ void differentiateItems(const Call& call) {
  const auto channels = static_cast<int>(call.shape.channels);
  int64_t sample = -1;
  int n = 0;
  for (int64_t at = blockIdx.x; at < call.items(); at += gridDim.x, n++) {
    const Item item(call, at, n);
    if (item.sample != sample) {
      sample = item.sample;
      __syncthreads();
      for (int row = threadIdx.x; row < channels + 2; row += sumThreads) {
        float total[3];
        call.terms.slopes(call.sums, sample, row, total);
        for (int k = 0; k < 3; k++) call.slopes()[3 * row + k] = total[k];
      }
      __syncthreads();
    }
    R own(channels, sample);
    const SegmentationGradient gradient{item.s, call.slopes() - sample * call.count(), call.gradient};
    own.forEach(item.begin, item.end, sumThreads / R::lanes, [&](int64_t voxel) { gradient(own, voxel); });
  }
}

template <class R, class Source>
__global__ void __launch_bounds__(sumThreads, R::each == 2 ? 3 : 2)
    segmentationLossesKernel(const __grid_constant__ Call call) {
  if (call.first == addUp) addUpItems<R, Source>(call);
  if (call.first < finish && call.last >= finish) gridBarrier();
  if (call.first <= finish && call.last >= finish) finishSums(call);
  if (call.first < differentiate && call.last == differentiate) gridBarrier();
  if (call.last == differentiate) differentiateItems<R>(call);
}

size_t workspace(const Step& step) {
  const SegmentationShape shape(step.inputs[1]);
  const int64_t chunks = RowChunks(shape.rows, shape.channels).chunks;
  return static_cast<size_t>(shape.samples * chunks * segmentationSums(shape.channels)) * sizeof(double);
}

size_t prepare(const Step& step) {
  SegmentationStep(step).check();
  return workspace(step);
}

Call callOf(const Step& step) {
  const SegmentationShape shape(step.inputs[1]);
  const SegmentationStep losses(step);
  Call call{shape, RowChunks(shape.rows, shape.channels), segmentationOf(step, 1, losses.mask())};
  call.terms = losses.terms();
  call.partial = static_cast<double*>(step.workspace);
  call.sums = step.inputs[0].f32();
  call.gradient = step.output.f32();
  call.keptFloats = divideUp(std::min(call.all.chunkRows, shape.rows) * shape.channels, 4) * 4;
  return call;
}

template <class R, class Source>
void runOf(Call call) {
  constexpr const char* name = Source::name;
  constexpr auto kernel = segmentationLossesKernel<R, Source>;
  const size_t first =
      std::max(sharedBytesOfSums<R>(call.shape.channels), sumThreads * sizeof(double)) / 16 * 16 + 16;
  call.slopesAt = static_cast<int64_t>(first / sizeof(float));
  call.headFloats = Source::sharedFloats(call.head);
  const size_t least =
      first + static_cast<size_t>(divideUp(call.count(), 4) * 4 + call.headFloats) * sizeof(float);
  const size_t chunk = static_cast<size_t>(call.keptFloats) * sizeof(float);
  // Three blocks to a multiprocessor have so much.
  constexpr size_t room = 72 << 10;
  call.keptItems = static_cast<int>(least < room ? (room - least) / chunk : 0);
  const int64_t blocks = cooperativeBlocks(name, kernel, sumThreads, least + call.keptItems * chunk);
  if (blocks > 0) {
    const int64_t used = std::min(blocks, call.items());
    call.keptItems = static_cast<int>(std::min<int64_t>(call.keptItems, divideUp(call.items(), used)));
    const Grid grid{static_cast<unsigned>(used), sumThreads, least + call.keptItems * chunk};
    return launchCooperatively(name, kernel, grid, call);
  }
  call.keptItems = 0;
  for (int phase = addUp; phase < phases; phase++) {
    call.first = call.last = static_cast<Phase>(phase);
    const int64_t items = phase == finish ? call.shape.samples * call.count() : call.items();
    launch(name, kernel, Grid{static_cast<unsigned>(std::min(items, mostBlocks)), sumThreads, least}, call);
  }
}

void run(const Step& step) {
  const Call call = callOf(step);
  byChannels(call.shape.channels, wholeRows(step), [&](auto kind) {
    using R = typename decltype(kind)::type;
    runOf<R, GivenLogits<R>>(call);
  });
}

size_t prepareWithHead(const Step& step) {
  checkHead(step);
  return prepare(withoutHead(step));
}

void runWithHead(const Step& step) {
  Call call = callOf(withoutHead(step));
  call.head = headOf(step);
  byChannels(call.shape.channels, wholeRows(step), [&](auto kind) {
    using R = typename decltype(kind)::type;
    if constexpr (R::lanes == 1 && R::each <= mostHeadClasses)
      byStorage(step.inputs[1],
                [&](auto storage) { runOf<R, ComputedLogits<R, typename decltype(storage)::type>>(call); });
  });
}

size_t updates(const Step&) { return 1; }

Kernel lossesKernel(const char* name, size_t (*prepare)(const Step&), void (*run)(const Step&)) {
  Kernel kernel{name, prepare, run};
  kernel.updates = updates;
  return kernel;
}

}  // namespace

const KernelTable segmentationLossesKernels = {
    lossesKernel("segmentationLosses", prepare, run),
    lossesKernel("headSegmentationLosses", prepareWithHead, runWithHead)};

}  // namespace voxgrad::cuda
