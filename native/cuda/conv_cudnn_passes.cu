#include "conv_cudnn_passes.h"
#include "moments.h"

namespace voxgrad::cuda {
namespace {

template <class T>
struct Unpack {
  const T* packed;  // [groups, columns, taps, depth]
  int64_t taps;
  int depth, columns;
  T* w;
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % columns, tap = i / columns % taps, filter = i / columns / taps;
    w[i] = packed[((filter / depth * columns + column) * taps + tap) * depth + filter % depth];
  }
};

template <class T>
void unpack(const GatherCall& call, void* w) {
  const Gather& gather = call.gather;
  forEach("unpackWeights", gather.taps() * gather.groups * gather.depth * gather.columns,
          Unpack<T>{static_cast<const T*>(call.weights), gather.taps(), gather.depth, gather.columns,
                    static_cast<T*>(w)});
}

template <class T>
struct AddBias {
  const float* bias;
  int64_t channels;
  T* output;
  __device__ void operator()(int64_t i) const { output[i] = T(float(output[i]) + bias[i % channels]); }
};

template <class T>
void addTo(const GatherCall& call) {
  forEach("addBias", call.gather.outputVoxels() * call.channels(),
          AddBias<T>{call.bias, call.channels(), static_cast<T*>(call.output)});
}

struct FoldNorm {
  SourceNorm norm;
  float *scale, *shift;
  __device__ void operator()(int64_t channel) const {
    const Affine map = norm.mapOf(channel);
    scale[channel] = map.scale;
    shift[channel] = static_cast<float>(map.shift - static_cast<double>(map.mean) * map.scale);
  }
};

struct FinishMoments {
  const float *sums, *squares;
  double count;
  float* moments;
  __device__ void operator()(int64_t channel) const {
    storeMoments(sums[channel], squares[channel], count, moments + 2 * channel);
  }
};

}  // namespace

void unpackWeights(const GatherCall& call, void* w) {
  call.precision == Precision::bf16 ? unpack<Bf16>(call, w) : unpack<float>(call, w);
}

void addBias(const GatherCall& call) { call.narrow ? addTo<Bf16>(call) : addTo<float>(call); }

void foldNorm(const SourceNorm& norm, int64_t channels, float* scale, float* shift) {
  forEach("foldNorm", channels, FoldNorm{norm, scale, shift});
}

void finishMoments(const GatherCall& call, const float* sums, const float* squares) {
  forEach("finishMoments", call.channels(),
          FinishMoments{sums, squares, static_cast<double>(call.gather.outputVoxels()), call.moments});
}

}  // namespace voxgrad::cuda
