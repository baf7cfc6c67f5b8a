#include <algorithm>

#include "conv_sums.h"
#include "moments.h"

namespace voxgrad::cuda {
namespace {

SumShape chunkShape(const Gather& gather, int64_t chunks) {
  return {1, chunks, int64_t{gather.groups} * gather.columns};
}

StoreMoments storeOf(const GatherCall& call) {
  return {static_cast<double>(call.gather.outputVoxels()), call.channels(), call.moments};
}

struct AddChunks {
  const double* sums;
  int64_t channels;
  __device__ void operator()(int64_t, int64_t chunk, int64_t channel, double (&totals)[2]) const {
    for (int k = 0; k < 2; k++) totals[k] += sums[(chunk * 2 + k) * channels + channel];
  }
};

int64_t doublesOf(const Gather& gather, int64_t chunks) {
  return chunks * 2 * gather.groups * gather.columns;
}

}  // namespace

size_t sumsBytes(const Gather& gather, int64_t chunks) {
  return std::max(static_cast<size_t>(doublesOf(gather, chunks)) * sizeof(double) +
                      sumBytes<2>(chunkShape(gather, chunks)),
                  sumBytes<2>(chunkShape(gather, gather.outputVoxels())));
}

void joinSums(const GatherCall& call, int64_t chunks) {
  columnSums<2>("joinSums", chunkShape(call.gather, chunks), call.sums + doublesOf(call.gather, chunks),
                AddChunks{call.sums, call.channels()}, storeOf(call));
}

void sumOutput(const GatherCall& call) {
  const SumShape shape = chunkShape(call.gather, call.gather.outputVoxels());
  const auto sum = [&](auto storage) {
    using T = typename decltype(storage)::type;
    columnSums<2>("sumOutput", shape, call.sums,
                  AddSquares<T>{static_cast<const T*>(call.output), shape.rows, shape.columns},
                  storeOf(call));
  };
  call.narrow ? sum(TypeName<Bf16>{}) : sum(TypeName<float>{});
}

}  // namespace voxgrad::cuda
