#include <algorithm>
#include <array>

#include "cudnn_graph.h"

namespace voxgrad::cuda::cudnn {
namespace {

// Tensors between two operations, which are never in memory.
enum VirtualId : int64_t { idScaled = idSquares + 1, idShifted, idActive, idProduct, idWidened };

// The attributes of the three kinds of convolutions.
struct Names {
  int kind, alpha, beta, how, w, x, y;
};

constexpr Names namesOf(Pass pass) {
  if (pass == Pass::forward) return {kind::convolutionForward, 700, 701, 702, 703, 704, 705};
  if (pass == Pass::inputGradient) return {kind::convolutionInputGradient, 706, 707, 708, 709, 710, 711};
  return {kind::convolutionWeightGradient, 712, 713, 714, 715, 716, 717};
}

}  // namespace

bool Problem::operator<(const Problem& other) const {
  const auto key = [](const Problem& p) {
    std::array<int64_t, 32> all = {static_cast<int64_t>(p.pass),
                                   static_cast<int64_t>(p.precision),
                                   p.normalizes,
                                   p.bias,
                                   p.sums,
                                   p.wide,
                                   p.flipped,
                                   p.axes};
    int64_t* to = all.data() + 8;
    for (const auto* extents : {&p.x, &p.w, &p.y}) to = std::copy_n(*extents, p.axes + 2, to);
    for (const auto* each : {&p.pad, &p.stride, &p.dilation}) to = std::copy_n(*each, p.axes, to);
    return all;
  };
  return key(*this) < key(other);
}

Graph::Graph(const Problem& problem, bool widens) : axes_(problem.axes) {
  const bool intoX = problem.pass == Pass::inputGradient, intoW = problem.pass == Pass::weightGradient;
  const int stored = problem.precision == Precision::bf16 ? dataBf16 : dataFloat;
  const int written = problem.wide ? dataFloat : stored;
  const int64_t *source = problem.source(), *result = problem.result();

  BackendDescriptor read = tensor(intoX ? idY : idX, source, stored);
  if (problem.normalizes) {
    const BackendDescriptor scaled = tensor(idScaled, source, dataFloat, true);
    const BackendDescriptor shifted = tensor(idShifted, source, dataFloat, true);
    const BackendDescriptor active = tensor(idActive, source, stored, true);
    pointwise(pointwiseMultiply, read, perChannel(idScale, source), scaled);
    pointwise(pointwiseAdd, scaled, perChannel(idShift, source), shifted);
    pointwise(pointwiseRelu, shifted, nullptr, active);
    read = active;
  }

  const Id resultId = intoX ? idX : intoW ? idW : idY;
  BackendDescriptor made =
      problem.bias ? tensor(idProduct, result, dataFloat, true) : tensor(resultId, result, written);
  if (intoX)
    convolve(problem, made, tensor(idW, problem.w, stored), read);
  else if (intoW)
    convolve(problem, read, made, tensor(idY, problem.y, stored));
  else
    convolve(problem, read, tensor(idW, problem.w, stored), made);
  if (problem.bias) {
    const BackendDescriptor added = tensor(resultId, result, written);
    pointwise(pointwiseAdd, made, perChannel(idBias, result), added);
    made = added;
  }
  if (problem.sums && widens) {
    const BackendDescriptor wide = tensor(idWidened, result, dataFloat, true);
    pointwise(pointwiseIdentity, made, nullptr, wide);
    made = wide;
  }
  if (problem.sums) sum(made, result);

  graph_.set(attribute::graphHandle, type::handle, handle());
  graph_.set(attribute::graphOperations, type::descriptor, static_cast<int64_t>(operations_.size()),
             operations_.data());
  graph_.finalize("graph");
}

std::vector<Descriptor> Graph::configs(int mode) const {
  std::vector<Descriptor> configs;
  Descriptor heuristics(kind::heuristics);
  heuristics.set(attribute::heuristicGraph, type::descriptor, graph_.get());
  heuristics.set(attribute::heuristicMode, type::heuristicMode, mode);
  if (!heuristics.tryFinalize()) return configs;
  const int64_t count = heuristics.get<void>(attribute::heuristicResults, type::descriptor, 0, nullptr);
  std::vector<BackendDescriptor> into;
  for (int64_t i = 0; i < count; i++) into.push_back(configs.emplace_back(kind::engineConfig).get());
  const int64_t found = heuristics.get(attribute::heuristicResults, type::descriptor, count, into.data());
  while (static_cast<int64_t>(configs.size()) > found) configs.pop_back();
  return configs;
}

BackendDescriptor Graph::keep(Descriptor descriptor) {
  return parts_.emplace_back(std::move(descriptor)).get();
}

// Channels are innermost.
BackendDescriptor Graph::tensor(int64_t id, const int64_t* extents, int dataType, bool isVirtual) {
  Descriptor made(kind::tensor);
  int64_t strides[5], stride = extents[1];
  strides[1] = 1;
  for (int i = axes_ + 1; i >= 2; i--) {
    strides[i] = stride;
    stride *= extents[i];
  }
  strides[0] = stride;
  made.set(attribute::tensorType, type::dataType, dataType);
  made.set(attribute::tensorExtents, type::int64, axes_ + 2, extents);
  made.set(attribute::tensorStrides, type::int64, axes_ + 2, strides);
  made.set(attribute::tensorId, type::int64, id);
  made.set(attribute::tensorAlignment, type::int64, int64_t{16});
  made.set(attribute::tensorIsVirtual, type::boolean, isVirtual);
  made.finalize("tensor");
  return keep(std::move(made));
}

BackendDescriptor Graph::perChannel(Id id, const int64_t* extents) {
  const int64_t own[5] = {1, extents[1], 1, 1, 1};
  return tensor(id, own, dataFloat);
}

void Graph::pointwise(int mode, BackendDescriptor x, BackendDescriptor b, BackendDescriptor y) {
  Descriptor how(kind::pointwise), operation(kind::pointwiseOperation);
  how.set(attribute::pointwiseMode, type::pointwiseMode, mode);
  how.set(attribute::pointwiseMath, type::dataType, dataFloat);
  // What is not a number must show.
  if (mode == pointwiseRelu) how.set(attribute::pointwiseNan, type::nanPropagation, propagateNan);
  how.finalize("pointwise");
  operation.set(attribute::pointwiseDescriptor, type::descriptor, how.get());
  operation.set(attribute::pointwiseX, type::descriptor, x);
  if (b != nullptr) operation.set(attribute::pointwiseB, type::descriptor, b);
  operation.set(attribute::pointwiseY, type::descriptor, y);
  operation.finalize("pointwise");
  keep(std::move(how));
  operations_.push_back(keep(std::move(operation)));
}

void Graph::convolve(const Problem& problem, BackendDescriptor x, BackendDescriptor w, BackendDescriptor y) {
  Descriptor how(kind::convolution);
  how.set(attribute::computeType, type::dataType, dataFloat);
  how.set(attribute::mode, type::convolutionMode, problem.flipped ? convolutionMode : crossCorrelationMode);
  how.set(attribute::spatialDimensions, type::int64, int64_t{axes_});
  how.set(attribute::prePaddings, type::int64, axes_, problem.pad);
  how.set(attribute::postPaddings, type::int64, axes_, problem.pad);
  how.set(attribute::strides, type::int64, axes_, problem.stride);
  how.set(attribute::dilations, type::int64, axes_, problem.dilation);
  how.finalize("convolution");

  const Names names = namesOf(problem.pass);
  Descriptor operation(names.kind);
  operation.set(names.alpha, type::real, 1.0f);
  operation.set(names.beta, type::real, 0.0f);
  operation.set(names.how, type::descriptor, how.get());
  operation.set(names.x, type::descriptor, x);
  operation.set(names.w, type::descriptor, w);
  operation.set(names.y, type::descriptor, y);
  operation.finalize("convolution");
  keep(std::move(how));
  operations_.push_back(keep(std::move(operation)));
}

void Graph::sum(BackendDescriptor x, const int64_t* extents) {
  Descriptor operation(kind::statistics);
  operation.set(attribute::statisticsMode, type::statisticsMode, sumsAndSquares);
  operation.set(attribute::statisticsMath, type::dataType, dataFloat);
  operation.set(attribute::statisticsX, type::descriptor, x);
  operation.set(attribute::statisticsSum, type::descriptor, perChannel(idSums, extents));
  operation.set(attribute::statisticsSquares, type::descriptor, perChannel(idSquares, extents));
  operation.finalize("statistics");
  operations_.push_back(keep(std::move(operation)));
}

}  // namespace voxgrad::cuda::cudnn
