// How maps of one channel are cut into blocks, and what of them lies in shared memory.
#pragma once

#include "conv_halo_plan.h"

namespace voxgrad::cuda {

// Elements of a word, in which fragments of matrices are made of them: bfloat16 goes by neighbours.
template <Precision P>
constexpr int elementsOfWord = 4 / static_cast<int>(sizeof(Element<P>));
inline int elementsOfWordOf(Precision precision) { return precision == Precision::bf16 ? 2 : 1; }

// Lines of the map are stored by the phases of the stride along the width where voxels are neighbours in a
// word, and as they are where taps are. Of bfloat16 there are two copies, the second one an element further,
// since a word begins at every other element only.
struct StemPlan {
  int block[3], blocks[3];  // output voxels of a block, and blocks, by axis
  int halo[3];              // voxels that a block reads
  int phases, pitch;        // of a line, and elements of one phase
  int copy;                 // elements from the first copy to the second

  __host__ __device__ int line() const { return phases * pitch; }
  __host__ __device__ int elements() const { return halo[0] * halo[1] * line(); }
};

inline StemPlan stemPlanOf(const Gather& gather, Precision precision, int phases, int width) {
  const bool flat = gather.axis[0].taps == 1;
  StemPlan plan{{flat ? 1 : 2, flat ? 8 : 4, voxelsOfLine}, {}, {}, phases, 0, 0};
  for (int k = 0; k < 3; k++) {
    const GatherAxis& axis = gather.axis[k];
    plan.blocks[k] = static_cast<int>(divideUp(axis.output, plan.block[k]));
    plan.halo[k] = (plan.block[k] - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1;
  }
  const int reach = (voxelsOfLine - 1) * gather.axis[2].stride + width;
  plan.pitch = static_cast<int>(divideUp(divideUp(reach, phases), 2)) * 2;
  // Words of the two copies lie in different halves of the banks.
  if (precision == Precision::bf16) plan.copy = static_cast<int>(divideUp(plan.elements(), 64)) * 64 + 32;
  return plan;
}

// Elements of shared memory that it takes, a whole number of chunks.
inline int elementsOf(const StemPlan& plan) {
  return static_cast<int>(divideUp(plan.copy + plan.elements(), 8)) * 8;
}

// Brings what a block reads of the map to shared memory, zeroes where it is outside.
template <int THREADS, class T>
__device__ __forceinline__ void loadMap(const Gather& gather, const StemPlan& plan, const T* source,
                                        int64_t batch, const int (&first)[3], T* map) {
  const GatherAxis(&axis)[3] = gather.axis;
  const int width = plan.line();
  for (int i = threadIdx.x; i < plan.elements(); i += THREADS) {
    const int line = i / width, x = i % width;
    const int at[3] = {line / plan.halo[1], line % plan.halo[1], x};
    bool valid = x < plan.halo[2];
    int64_t voxel = batch;
    for (int k = 0; k < 3; k++) {
      const int position = first[k] * axis[k].stride - axis[k].pad + at[k];
      valid = valid && static_cast<unsigned>(position) < static_cast<unsigned>(axis[k].source);
      voxel = voxel * axis[k].source + position;
    }
    const T value = valid ? source[voxel] : T(0.0f);
    const int to = line * width + x % plan.phases * plan.pitch + x / plan.phases;
    map[to] = value;
    if (plan.copy > 0 && x >= plan.phases) map[plan.copy + to - 1] = value;
  }
}

// A word at an element of the first copy, or the same of the second, that begins a word there.
template <class T>
__device__ __forceinline__ uint32_t wordAt(const T* at) {
  return *reinterpret_cast<const uint32_t*>(at);
}

// Where the word that begins at an element of a line is, in the copy where it is aligned.
template <Precision P>
__device__ __forceinline__ int alignedAt(const StemPlan& plan, int element) {
  return P == Precision::bf16 && element % 2 != 0 ? plan.copy + element - 1 : element;
}

// Whether maps of one channel are cut into blocks that are not mostly empty.
inline bool isStem(const Gather& gather) {
  if (gather.transposed || gather.groups != 1 || gather.depth != 1 || gather.axis[2].dilation != 1)
    return false;
  int64_t voxels = 1, covered = 1, reach = 1;
  const bool flat = gather.axis[0].taps == 1;
  const int block[3] = {flat ? 1 : 2, flat ? 8 : 4, voxelsOfLine};
  for (int k = 0; k < 3; k++) {
    const GatherAxis& axis = gather.axis[k];
    voxels *= axis.output;
    covered *= divideUp(axis.output, block[k]) * block[k];
    reach *= int64_t{block[k]} * axis.stride + int64_t{axis.taps} * axis.dilation;
    if (reach > 1 << 16) return false;
  }
  return voxels * 5 >= covered * 3 && gather.taps() > 1;
}

}  // namespace voxgrad::cuda
