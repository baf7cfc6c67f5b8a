// Descriptors of cuDNN's backend, of which operation graphs and plans are made, and the numbers of its
// interface that are used.
#pragma once

#include <utility>

#include "cudnn.h"

namespace voxgrad::cuda::cudnn {

// Kinds of descriptors,
namespace kind {
constexpr int pointwise = 0, convolution = 1, engine = 2, engineConfig = 3, heuristics = 4, plan = 5,
              convolutionForward = 10, convolutionWeightGradient = 11, convolutionInputGradient = 12,
              pointwiseOperation = 13, statistics = 14, operationGraph = 15, variantPack = 16, tensor = 17;
}
// what attributes consist of,
namespace type {
constexpr int handle = 0, dataType = 1, boolean = 2, int64 = 3, real = 4, pointer = 6, convolutionMode = 7,
              heuristicMode = 8, nanPropagation = 10, numericalNote = 11, pointwiseMode = 14, descriptor = 15,
              statisticsMode = 16;
}
// the attributes,
namespace attribute {
constexpr int pointwiseMode = 0, pointwiseMath = 1, pointwiseNan = 2;
constexpr int computeType = 100, mode = 101, dilations = 102, strides = 103, postPaddings = 104,
              prePaddings = 105, spatialDimensions = 106;
constexpr int heuristicMode = 200, heuristicGraph = 201, heuristicResults = 202, configEngine = 300;
constexpr int planHandle = 400, planConfig = 401, planWorkspace = 402;
constexpr int pointwiseDescriptor = 750, pointwiseX = 751, pointwiseB = 752, pointwiseY = 753;
constexpr int statisticsMode = 770, statisticsMath = 771, statisticsX = 772, statisticsSum = 773,
              statisticsSquares = 774;
constexpr int graphHandle = 800, graphOperations = 801;
constexpr int tensorAlignment = 900, tensorType = 901, tensorExtents = 902, tensorStrides = 903,
              tensorId = 906, tensorIsVirtual = 907;
constexpr int packIds = 1000, packPointers = 1001, packWorkspace = 1003;
constexpr int engineNotes = 1303;
}  // namespace attribute
// and values of theirs.
constexpr int dataFloat = 0, dataBf16 = 9;
constexpr int convolutionMode = 0, crossCorrelationMode = 1;
constexpr int pointwiseAdd = 0, pointwiseMultiply = 1, pointwiseIdentity = 21, pointwiseRelu = 100;
constexpr int propagateNan = 1;
constexpr int sumsAndSquares = 0;
constexpr int heuristicFallback = 2, heuristicA = 3;

// Throws Error("ERR_DEVICE") naming `what` unless that is success.
void expect(Status status, const char* what);
// Works on stream(); made once.
Handle handle();

class Descriptor {
 public:
  explicit Descriptor(int kind) { expect(library()->BackendCreateDescriptor(kind, &made_), "descriptor"); }
  ~Descriptor() {
    if (made_ != nullptr) library()->BackendDestroyDescriptor(made_);
  }
  Descriptor(Descriptor&& other) noexcept : made_(std::exchange(other.made_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;

  template <class T>
  void set(int name, int type, int64_t count, const T* values) {
    expect(library()->BackendSetAttribute(made_, name, type, count, values), "attribute");
  }
  template <class T>
  void set(int name, int type, T value) {
    set(name, type, 1, &value);
  }
  template <class T>
  int64_t get(int name, int type, int64_t room, T* values) const {
    int64_t count = 0;
    expect(library()->BackendGetAttribute(made_, name, type, room, &count, values), "attribute");
    return count;
  }
  void finalize(const char* what) { expect(library()->BackendFinalize(made_), what); }
  bool tryFinalize() { return library()->BackendFinalize(made_) == success; }

  BackendDescriptor get() const { return made_; }

 private:
  BackendDescriptor made_ = nullptr;
};

}  // namespace voxgrad::cuda::cudnn
