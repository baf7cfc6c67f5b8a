// The updates of many parameters in one launch, which also writes the copies of them that convolutions read.
#include <algorithm>
#include <set>

#include "../core/sgd_step.h"
#include "conv_check.h"
#include "kernels.h"
#include "pack.h"
#include "sgd.h"

namespace voxgrad::cuda {
namespace {

constexpr int threads = 256;
// Numbers that a block updates: of a parameter with a transposed copy a tile, so that this is written along
// lines as well; of all others so many that follow each other.
constexpr int tileRows = 32, tileColumns = 64, run = tileRows * tileColumns;

struct Parameter {
  const float *p, *g;
  float *v, *y;
  void *copy, *transposed;  // null where there is none
  // The matrix whose transpose is packed, and there are `groups` of them: filters by taps times channels.
  int64_t count;
  int rows, columns, channels;
  unsigned end;  // blocks of this parameter and those before
  bool wide;     // whether four numbers can be moved at once

  int64_t blocks() const {
    if (transposed == nullptr) return divideUp(count, run);
    const int64_t groups = count / (int64_t{rows} * columns);
    return groups * divideUp(rows, tileRows) * divideUp(columns, tileColumns);
  }
};

// What fits into the 4 KiB of arguments that every kernel may have, and into the 32 KiB of drivers for CUDA
// 12.1 or later.
constexpr int few = 48, many = 400;

template <int MOST>
struct Table {
  Sgd sgd;
  bool nesterov;
  int count;
  const float* rate;
  Parameter of[MOST];

  __device__ __forceinline__ float update(float* p, float* v, float g) const {
    const float before = *p;
    *v = sgd.velocity(*v, g, before);
    *p = nesterov ? sgd.descendNesterov(before, *v, g, *rate) : sgd.descend(before, *v, *rate);
    return *p;
  }
};

template <class Copy, int V, class Table>
__device__ void updateRun(const Table& table, const Parameter& of, int64_t begin) {
  const int64_t end = begin + run < of.count ? begin + run : of.count;
  for (int64_t at = begin + threadIdx.x * V; at < end; at += threads * V) {
    Pack<float, V> p = loadPack<V>(of.p + at), v = loadPack<V>(of.v + at);
    const Pack<float, V> g = loadPack<V>(of.g + at);
    for (int k = 0; k < V; k++) table.update(&p.v[k], &v.v[k], g.v[k]);
    storePack(of.v + at, v);
    storePack(of.y + at, p);
    if (of.copy != nullptr) storeFloats(static_cast<Copy*>(of.copy) + at, p);
  }
}

template <class Copy, class Table>
__device__ void updateTile(const Table& table, const Parameter& of, unsigned block) {
  float* tile = sharedMemory<float>();
  constexpr int pitch = tileColumns + 1;
  const unsigned across = (of.columns + tileColumns - 1) / tileColumns;
  const unsigned down = (of.rows + tileRows - 1) / tileRows;
  const int column0 = static_cast<int>(block % across) * tileColumns;
  const int row0 = static_cast<int>(block / across % down) * tileRows;
  const int64_t matrix = int64_t{block / across / down} * of.rows * of.columns;
  for (int i = threadIdx.x; i < run; i += threads) {
    const int row = row0 + i / tileColumns, column = column0 + i % tileColumns;
    if (row >= of.rows || column >= of.columns) continue;
    const int64_t at = matrix + int64_t{row} * of.columns + column;
    float p = of.p[at], v = of.v[at];
    tile[i / tileColumns * pitch + i % tileColumns] = table.update(&p, &v, of.g[at]);
    of.v[at] = v;
    of.y[at] = p;
    if (of.copy != nullptr) static_cast<Copy*>(of.copy)[at] = p;
  }
  __syncthreads();
  const int taps = of.columns / of.channels;
  for (int i = threadIdx.x; i < run; i += threads) {
    const int row = row0 + i % tileRows, column = column0 + i / tileRows;
    if (row >= of.rows || column >= of.columns) continue;
    const int tap = column / of.channels, channel = column - tap * of.channels;
    static_cast<Copy*>(of.transposed)[matrix + (int64_t{channel} * taps + tap) * of.rows + row] =
        tile[i % tileRows * pitch + i / tileRows];
  }
}

template <class Copy, int MOST>
__global__ void __launch_bounds__(threads) sgdKernel(const __grid_constant__ Table<MOST> table) {
  int low = 0, high = table.count - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (blockIdx.x < table.of[middle].end)
      high = middle;
    else
      low = middle + 1;
  }
  const Parameter& of = table.of[low];
  const unsigned block = blockIdx.x - (low > 0 ? table.of[low - 1].end : 0);
  if (of.transposed != nullptr) return updateTile<Copy>(table, of, block);
  const int64_t begin = int64_t{block} * run;
  if (of.wide)
    updateRun<Copy, 4>(table, of, begin);
  else
    updateRun<Copy, 1>(table, of, begin);
}

template <class Copy, int MOST>
void launchTable(const Step& step, const SgdStep& sgd, const std::vector<Parameter>& parameters, size_t begin,
                 size_t end) {
  Table<MOST> table;
  table.sgd = sgdOf(step);
  table.nesterov = step.attributes.flag("nesterov");
  table.count = static_cast<int>(end - begin);
  table.rate = sgd.rate().f32();
  unsigned blocks = 0;
  for (size_t i = begin; i < end; i++) {
    Parameter& of = table.of[i - begin] = parameters[i];
    of.end = blocks += static_cast<unsigned>(of.blocks());
  }
  launch("sgd", sgdKernel<Copy, MOST>, Grid{blocks, threads, tileRows * (tileColumns + 1) * sizeof(float)},
         table);
}

size_t mostAtOnce() {
#ifdef __CUDACC__
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "driver version");
  return driver >= 12010 ? many : few;
#else
  return many;
#endif
}

template <class Copy>
void runParameters(const Step& step, const SgdStep& sgd, const std::vector<Parameter>& parameters) {
  const size_t most = mostAtOnce();
  for (size_t begin = 0; begin < parameters.size(); begin += most) {
    const size_t end = std::min(begin + most, parameters.size());
    if (end - begin <= few)
      launchTable<Copy, few>(step, sgd, parameters, begin, end);
    else
      launchTable<Copy, many>(step, sgd, parameters, begin, end);
  }
}

std::vector<Parameter> parametersOf(const SgdStep& sgd) {
  std::vector<Parameter> parameters;
  for (size_t i = 0; i < sgd.count(); i++) {
    const Tensor &p = sgd.parameter(i), &g = sgd.gradient(i), &v = sgd.velocity(i), &y = sgd.next(i);
    const bool wide = packWidth<float>(p.count(), {&p, &g, &v, &y}) == 4;
    parameters.push_back({p.f32(), g.f32(), v.f32(), y.f32(), nullptr, nullptr, p.count(), 1, 1, 1, 0, wide});
  }
  for (size_t i = 0; i < sgd.copies().size(); i++) {
    const SgdCopy& copy = sgd.copies()[i];
    const Tensor& p = sgd.parameter(copy.parameter);
    Parameter& of = parameters[copy.parameter];
    (copy.transposed ? of.transposed : of.copy) = sgd.copyAt(i).data;
    of.wide = of.wide && addressOf(of.copy) % 16 == 0;
    if (!copy.transposed) continue;
    of.rows = static_cast<int>(p.shape[0] / copy.groups);
    of.channels = static_cast<int>(p.channels());
    of.columns = static_cast<int>(p.count() / p.shape[0]);
  }
  return parameters;
}

size_t prepareSgd(const Step& step) {
  const SgdStep sgd(step);
  sgd.check();
  std::set<std::pair<size_t, bool>> found;
  for (size_t i = 0; i < sgd.copies().size(); i++) {
    const SgdCopy& copy = sgd.copies()[i];
    const Tensor& p = sgd.parameter(copy.parameter);
    if (!found.insert({copy.parameter, copy.transposed}).second) refuse(step, "two copies alike");
    if (sgd.copyAt(i).dtype != DType::bf16) expectDType(step, sgd.copyAt(i), DType::f32);
    expectDType(step, sgd.copyAt(i), sgd.copyAt(0).dtype);
    if (p.shape[0] >= int64_t{1} << 31 || p.count() / p.shape[0] >= int64_t{1} << 30)
      refuse(step, "filters or taps times channels exceed 2^30");
  }
  int64_t blocks = 0;
  for (Parameter& of : parametersOf(sgd)) {
    blocks += of.blocks();
    checkBlocks(step, blocks);
  }
  return 0;
}

void runSgd(const Step& step) {
  const SgdStep sgd(step);
  const std::vector<Parameter> parameters = parametersOf(sgd);
  if (!sgd.copies().empty() && sgd.copyAt(0).dtype == DType::bf16)
    runParameters<Bf16>(step, sgd, parameters);
  else
    runParameters<float>(step, sgd, parameters);
}

Kernel sgdKernelOf(const char* name) {
  Kernel kernel{name, prepareSgd, runSgd};
  kernel.updates = updatedBySgd;
  return kernel;
}

}  // namespace

const KernelTable sgdKernels = {sgdKernelOf("sgd"), sgdKernelOf("sgdPacked")};

}  // namespace voxgrad::cuda
