// The updates of many parameters, or of their averages, in one launch; that of parameters also writes the
// copies of them that convolutions read.
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

template <class Rule_, int MOST>
struct Table {
  using Rule = Rule_;
  Rule rule;
  int count;
  Parameter of[MOST];
};

struct Descent {
  static constexpr bool hasVelocity = true;
  Sgd sgd;
  bool nesterov;
  const float* rate;

  __device__ __forceinline__ void update(float* p, float* v, float g) const {
    const float before = *p;
    *v = sgd.velocity(*v, g, before);
    *p = nesterov ? sgd.descendNesterov(before, *v, g, *rate) : sgd.descend(before, *v, *rate);
  }
};

// Parameters are averages here, and gradients what they follow.
struct Following {
  static constexpr bool hasVelocity = false;
  EmaDecay decay;

  __device__ __forceinline__ void update(float* p, float*, float x) const { *p = decay.next(*p, x); }
};

template <class Copy, int V, class Table>
__device__ void updateRun(const Table& table, const Parameter& of, int64_t begin) {
  const int64_t end = begin + run < of.count ? begin + run : of.count;
  for (int64_t at = begin + threadIdx.x * V; at < end; at += threads * V) {
    Pack<float, V> p = loadPack<V>(of.p + at), v = {};
    const Pack<float, V> g = loadPack<V>(of.g + at);
    if constexpr (Table::Rule::hasVelocity) v = loadPack<V>(of.v + at);
    for (int k = 0; k < V; k++) table.rule.update(&p.v[k], &v.v[k], g.v[k]);
    if constexpr (Table::Rule::hasVelocity) storePack(of.v + at, v);
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
    float p = of.p[at], v = 0;
    if constexpr (Table::Rule::hasVelocity) v = of.v[at];
    table.rule.update(&p, &v, of.g[at]);
    if constexpr (Table::Rule::hasVelocity) of.v[at] = v;
    of.y[at] = tile[i / tileColumns * pitch + i % tileColumns] = p;
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

template <class Copy, class Table>
__global__ void __launch_bounds__(threads) updateKernel(const __grid_constant__ Table table) {
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

template <class Copy, class Table>
void launchTable(const char* name, const typename Table::Rule& rule, const Parameter* parameters,
                 size_t count) {
  Table table;
  table.rule = rule;
  table.count = static_cast<int>(count);
  unsigned blocks = 0;
  for (size_t i = 0; i < count; i++) {
    Parameter& of = table.of[i] = parameters[i];
    of.end = blocks += static_cast<unsigned>(of.blocks());
  }
  launch(name, updateKernel<Copy, Table>, Grid{blocks, threads, tileRows * (tileColumns + 1) * sizeof(float)},
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

template <class Copy, class Rule>
void updateAll(const char* name, const Rule& rule, const std::vector<Parameter>& parameters) {
  const size_t most = mostAtOnce();
  for (size_t begin = 0; begin < parameters.size(); begin += most) {
    const size_t count = std::min(most, parameters.size() - begin);
    if (count <= few)
      launchTable<Copy, Table<Rule, few>>(name, rule, parameters.data() + begin, count);
    else
      launchTable<Copy, Table<Rule, many>>(name, rule, parameters.data() + begin, count);
  }
}

void checkBlocksOf(const Step& step, const std::vector<Parameter>& parameters) {
  int64_t blocks = 0;
  for (const Parameter& of : parameters) {
    blocks += of.blocks();
    checkBlocks(step, blocks);
  }
}

Parameter parameterOf(const Tensor& p, const Tensor& g, float* v, const Tensor& y, bool wide) {
  return {p.f32(), g.f32(), v, y.f32(), nullptr, nullptr, p.count(), 1, 1, 1, 0, wide};
}

std::vector<Parameter> parametersOf(const SgdStep& sgd) {
  std::vector<Parameter> parameters;
  for (size_t i = 0; i < sgd.count(); i++) {
    const Tensor &p = sgd.parameter(i), &g = sgd.gradient(i), &v = sgd.velocity(i), &y = sgd.next(i);
    const bool wide = packWidth<float>(p.count(), {&p, &g, &v, &y}) == 4;
    parameters.push_back(parameterOf(p, g, v.f32(), y, wide));
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
  checkBlocksOf(step, parametersOf(sgd));
  return 0;
}

void runSgd(const Step& step) {
  const SgdStep sgd(step);
  const Descent rule{sgdOf(step), step.attributes.flag("nesterov"), sgd.rate().f32()};
  if (!sgd.copies().empty() && sgd.copyAt(0).dtype == DType::bf16)
    updateAll<Bf16>("sgd", rule, parametersOf(sgd));
  else
    updateAll<float>("sgd", rule, parametersOf(sgd));
}

// Inputs are averages, which are updated where they lie but for the first, what they follow, and the decay
// where the attribute `fed` says so.
size_t updatedByEmas(const Step& step) { return step.inputs.size() / 2; }

std::vector<Parameter> averagesOf(const Step& step) {
  std::vector<Parameter> averages;
  const size_t count = updatedByEmas(step);
  for (size_t i = 0; i < count; i++) {
    const Tensor &average = step.inputs[i], &x = step.inputs[count + i];
    const Tensor& y = i == 0 ? step.output : average;
    averages.push_back(
        parameterOf(average, x, nullptr, y, packWidth<float>(x.count(), {&average, &x, &y}) == 4));
  }
  return averages;
}

size_t prepareEmas(const Step& step) {
  const size_t count = updatedByEmas(step);
  const bool fed = step.attributes.flag("fed");
  if (count == 0 || step.inputs.size() != 2 * count + (fed ? 1 : 0)) refuse(step, "wrong number of inputs");
  for (const Tensor& input : step.inputs) expectDType(step, input, DType::f32);
  for (size_t i = 0; i < count; i++) expectSameShape(step, step.inputs[i], step.inputs[count + i]);
  expectDType(step, step.output, DType::f32);
  expectSameShape(step, step.inputs[0], step.output);
  if (fed) expectCount(step, step.inputs.back(), 1);
  step.attributes.number("decay");
  checkBlocksOf(step, averagesOf(step));
  return 0;
}

void runEmas(const Step& step) {
  const float* fed = step.attributes.flag("fed") ? step.inputs.back().f32() : nullptr;
  updateAll<float>("emas", Following{{fed, step.attributes.number("decay")}}, averagesOf(step));
}

Kernel joined(const char* name, size_t (*prepare)(const Step&), void (*run)(const Step&),
              size_t (*updates)(const Step&)) {
  Kernel kernel{name, prepare, run};
  kernel.updates = updates;
  return kernel;
}

}  // namespace

const KernelTable sgdKernels = {joined("sgd", prepareSgd, runSgd, updatedBySgd),
                                joined("sgdPacked", prepareSgd, runSgd, updatedBySgd),
                                joined("emas", prepareEmas, runEmas, updatedByEmas)};

}  // namespace voxgrad::cuda
