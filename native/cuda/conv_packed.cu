// Convolutions whose weights a step of their own has packed: alone, with a source that they normalise as they
// load it, and with the moments of what they store.
#include "cast.h"
#include "conv_pack.h"
#include "conv_steps.h"
#include "kernels.h"

namespace voxgrad::cuda {
namespace {

// The step as `conv3dPacked` has it. Moments of the output, which are written besides, come before its
// inputs; what the source is normalised with comes behind that.
template <bool SUMS, bool NORMALIZES>
Step bareOf(const Step& step) {
  Step bare = NORMALIZES ? withoutNorm(step, SUMS) : step;
  if (SUMS) bare.inputs.erase(bare.inputs.begin());
  return bare;
}

// Both activations may be bf16.
Conv3dProblem problemOf(const Step& bare) { return packedProblem(widened(bare, 1 | outputBit)); }

// A step whose operands `prepare` has checked, decoded.
struct Packed {
  const Step& bare;
  Gather gather;
  Extras extras;

  Packed(const Step& bare, bool normalizes, bool sums)
      : bare(bare),
        gather(gatherOf(problemOf(bare), isInputGradient(bare))),
        extras{bare.inputs.size() > 2,
               precisionOf(bare) == Precision::bf16 && bare.output.dtype != DType::bf16, normalizes, sums} {}

  GatherWay way() const { return wayOf(bare, gather, extras); }
};

template <bool SUMS, bool NORMALIZES>
size_t prepare(const Step& step) {
  constexpr size_t least = 2 + SUMS + (NORMALIZES ? normInputs : 0);
  expectInputs(step, least, least + 1);
  const Step bare = bareOf<SUMS, NORMALIZES>(step);
  checkBias(bare);
  const Conv3dProblem problem = problemOf(bare);
  checkStorage(bare, bare.inputs[0]);
  checkStorage(bare, bare.inputs[1]);
  checkResult(bare);
  expectCount(bare, bare.inputs[1], weightsOf(problem));
  checkGather(bare, problem, isInputGradient(bare));
  if (NORMALIZES) checkNorm(step, SUMS);
  if (SUMS) {
    expectDType(step, step.inputs[0], DType::f32);
    expectCount(step, step.inputs[0], 2 * step.output.channels());
  }
  const Packed packed(bare, NORMALIZES, SUMS);
  return packed.way().workspace(packed.gather, precisionOf(step), SUMS);
}

template <bool SUMS, bool NORMALIZES>
void run(const Step& step) {
  const Step bare = bareOf<SUMS, NORMALIZES>(step);
  const Packed packed(bare, NORMALIZES, SUMS);
  GatherCall call{packed.gather,
                  precisionOf(step),
                  bare.inputs[0].data,
                  bare.inputs[1].data,
                  biasOf(bare),
                  step.output.data,
                  step.output.dtype == DType::bf16};
  if (NORMALIZES) {
    call.norm = normOf(step, SUMS);
    if (!aligned(call.source) || !aligned(call.weights) || !aligned(call.output))
      refuse(step, "it takes operands aligned to 16 bytes");
  }
  if (SUMS) call.moments = step.inputs[0].f32();
  packed.way().run(call, step.workspace);
}

template <bool SUMS, bool NORMALIZES>
std::vector<std::string> ways(const Step& step) {
  const Step bare = bareOf<SUMS, NORMALIZES>(step);
  const Packed packed(bare, NORMALIZES, SUMS);
  const Precision precision = precisionOf(step);
  return namesOf(waysOf(packed.gather, precision, packed.extras), packed.gather, precision);
}

template <bool SUMS, bool NORMALIZES>
const char* algorithm(const Step& step) {
  const Step bare = bareOf<SUMS, NORMALIZES>(step);
  const Packed packed(bare, NORMALIZES, SUMS);
  return packed.way().name(packed.gather, precisionOf(step));
}

// Whether a step of `conv3dPacked` could normalise its source, and whether it, or one that does, could sum
// what it stores.
bool normalizes(const Step& step) { return Packed(step, false, false).way().normalizes(); }

template <bool NORMALIZES>
bool sums(const Step& step) {
  const Step bare = bareOf<false, NORMALIZES>(step);
  const GatherWay way = Packed(bare, NORMALIZES, true).way();
  return way.sumsInStore() || way.kind == GatherWay::cudnn;
}

size_t onlyMoments(const Step&) { return 1; }

template <bool SUMS, bool NORMALIZES>
Kernel packed(const char* name) {
  Kernel kernel = named({name, prepare<SUMS, NORMALIZES>, run<SUMS, NORMALIZES>}, algorithm<SUMS, NORMALIZES>,
                        ways<SUMS, NORMALIZES>);
  if (SUMS) kernel.updates = onlyMoments;
  if (!SUMS) kernel.sums = sums<NORMALIZES>;
  if (!SUMS && !NORMALIZES) kernel.normalizes = normalizes;
  return kernel;
}

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

}  // namespace

const KernelTable packedConvKernels = {
    packed<false, false>("conv3dPacked"),
    packed<true, false>("conv3dPackedMoments"),
    packed<false, true>("normalizeReluConv3dPacked"),
    packed<true, true>("normalizeReluConv3dPackedMoments"),
    {"conv3dPackWeights", preparePacking, runPacking, nullptr, packedFloats},
};

}  // namespace voxgrad::cuda
