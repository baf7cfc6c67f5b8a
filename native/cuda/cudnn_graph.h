// What cuDNN is asked to compute, as a graph of its operations: a convolution or one of its gradients, with
// what can be done in the same kernel before and behind it. NVIDIA's manual calls the whole of it ConvBNfprop
// and ConvBNwgrad, and general ones "runtime fusion".
#pragma once

#include <vector>

#include "../core/conv_step.h"
#include "cudnn_descriptor.h"

namespace voxgrad::cuda::cudnn {

enum class Pass { forward, inputGradient, weightGradient };

// What a graph computes: y from x and w, or dx from dy (here y) and w, or dw from x and dy. Batch and
// channels come first in the extents, whatever the order in memory, where channels are innermost. Slices have
// two axes.
struct Problem {
  Pass pass;
  Precision precision;
  // Of each channel of the source, which is x, or y of an input gradient: scaled, shifted, and passed through
  // a ReLU, and rounded to the precision behind that.
  bool normalizes;
  bool bias;     // added to what is computed
  bool sums;     // of that by channel, as it is stored, and of its squares
  bool wide;     // the result is of floats in every precision, as dw always
  bool flipped;  // taps in reverse order
  int axes;      // of space
  // Two for batch and channels (of filters: both kinds of channels, those of a group), then one for each
  // axis.
  int64_t x[5], w[5], y[5];
  int64_t pad[3], stride[3], dilation[3];

  const int64_t* source() const { return pass == Pass::inputGradient ? y : x; }
  const int64_t* result() const { return pass == Pass::forward ? y : pass == Pass::inputGradient ? x : w; }
  bool operator<(const Problem& other) const;
};

// The tensors of a graph that are in memory, by the numbers that they have there.
enum Id : int64_t { idX = 1, idW, idY, idBias, idScale, idShift, idSums, idSquares };

// The descriptors of a problem; cuDNN may refuse any of them, which throws.
class Graph {
 public:
  // `widens`: what is summed is stored as bf16, and converted to floats once more for that.
  Graph(const Problem& problem, bool widens);

  // cuDNN's proposals for the whole graph, best first; none where it has none.
  std::vector<Descriptor> configs(int mode) const;

 private:
  BackendDescriptor keep(Descriptor descriptor);
  BackendDescriptor tensor(int64_t id, const int64_t* extents, int dataType, bool isVirtual = false);
  // One number for each channel of a tensor.
  BackendDescriptor perChannel(Id id, const int64_t* extents);
  // `b` is null for what takes one operand.
  void pointwise(int mode, BackendDescriptor x, BackendDescriptor b, BackendDescriptor y);
  void convolve(const Problem& problem, BackendDescriptor x, BackendDescriptor w, BackendDescriptor y);
  void sum(BackendDescriptor x, const int64_t* extents);

  int axes_;
  std::vector<Descriptor> parts_;
  std::vector<BackendDescriptor> operations_;
  Descriptor graph_{kind::operationGraph};
};

}  // namespace voxgrad::cuda::cudnn
