// Convolutions whose weights a step of their own has packed, alone or with the moments of what they store.
#include "cast.h"
#include "conv_pack.h"
#include "conv_steps.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// The step as `conv3dPacked` has it. The moments that it writes besides come before its inputs.
template <bool SUMS>
Step bareOf(const Step& step) {
  Step bare = step;
  if (SUMS) bare.inputs.erase(bare.inputs.begin());
  return bare;
}

// Both activations may be bf16.
Conv3dProblem problemOf(const Step& bare) { return packedProblem(widened(bare, 1 | outputBit)); }

// A step that `prepare` has accepted, decoded.
struct Packed {
  Gather gather;
  GatherWay way;

  explicit Packed(const Step& bare)
      : gather(gatherOf(problemOf(bare), isInputGradient(bare))), way(wayOf(bare, gather)) {}
};

template <bool SUMS>
size_t prepare(const Step& step) {
  expectInputs(step, SUMS + 2, SUMS + 3);
  const Step bare = bareOf<SUMS>(step);
  checkBias(bare);
  const Conv3dProblem problem = problemOf(bare);
  checkStorage(bare, bare.inputs[0]);
  checkStorage(bare, bare.inputs[1]);
  checkResult(bare);
  expectCount(bare, bare.inputs[1], weightsOf(problem));
  checkGather(bare, problem, isInputGradient(bare));
  if (SUMS) {
    expectDType(step, step.inputs[0], DType::f32);
    expectCount(step, step.inputs[0], 2 * step.output.channels());
  }
  const Packed packed(bare);
  return packed.way.workspace(packed.gather, precisionOf(step), SUMS);
}

template <bool SUMS>
void run(const Step& step) {
  const Step bare = bareOf<SUMS>(step);
  const Packed packed(bare);
  GatherCall call{packed.gather,
                  precisionOf(step),
                  bare.inputs[0].data,
                  bare.inputs[1].data,
                  biasOf(bare),
                  step.output.data,
                  step.output.dtype == DType::bf16};
  if (SUMS) call.moments = step.inputs[0].f32();
  packed.way.run(call, step.workspace);
}

template <bool SUMS>
std::vector<std::string> ways(const Step& step) {
  const Packed packed(bareOf<SUMS>(step));
  const Precision precision = precisionOf(step);
  return namesOf(waysOf(packed.gather, precision), packed.gather, precision);
}

template <bool SUMS>
const char* algorithm(const Step& step) {
  const Packed packed(bareOf<SUMS>(step));
  return packed.way.name(packed.gather, precisionOf(step));
}

bool sums(const Step& step) { return Packed(step).way.sumsInStore(); }

size_t onlyMoments(const Step&) { return 1; }

int64_t packedFloats(const Step& step) {
  expectInputs(step, 1, 1);
  return weightsOf(packingProblem(step));
}

size_t preparePacking(const Step& step) {
  const int64_t floats = packedFloats(step);
  checkStorage(step, step.output);
  expectCount(step, step.output, floats);
  checkGather(step, packingProblem(step), isInputGradient(step));
  return 0;
}

void runPacking(const Step& step) {
  const Conv3dProblem problem = packingProblem(step);
  const float* w = step.inputs[0].f32();
  const bool narrow = step.output.dtype == DType::bf16;
  if (isInputGradient(step) && narrow)
    packTransposed(problem, w, dataOf<Bf16>(step.output));
  else if (isInputGradient(step))
    packTransposed(problem, w, step.output.f32());
  else if (narrow)
    castElements(w, dataOf<Bf16>(step.output), step.output.count());
  else
    check(cudaMemcpyAsync(step.output.data, step.inputs[0].data, step.output.bytes(),
                          cudaMemcpyDeviceToDevice, stream()),
          step.kernel->name);
}

template <bool SUMS>
Kernel packed(const char* name) {
  Kernel kernel = named({name, prepare<SUMS>, run<SUMS>}, algorithm<SUMS>, ways<SUMS>);
  if (SUMS)
    kernel.updates = onlyMoments;
  else
    kernel.sums = sums;
  return kernel;
}

}  // namespace

const KernelTable packedConvKernels = {
    packed<false>("conv3dPacked"),
    packed<true>("conv3dPackedMoments"),
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloats},
};

}  // namespace voxgrad::cuda
